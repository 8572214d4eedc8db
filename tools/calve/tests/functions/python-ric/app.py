"""Served by awslambdaric, unchanged."""


def handler(event, context):
    return {"sum": sum(event["numbers"]), "request": context.aws_request_id}

"""The least a function can do."""


def handler(event, context):
    return {"hello": event}

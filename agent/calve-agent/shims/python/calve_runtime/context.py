"""What a handler gets besides its event: the context object, and logging that names the request."""

import logging
import os
import sys
import time

_request_id = None


class Context:
    """The context object of AWS Lambda's Python runtime."""

    def __init__(self, header):
        environ = os.environ
        self.aws_request_id = header["requestId"]
        self.invoked_function_arn = header["functionArn"]
        self.function_name = environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.client_context = None
        self.identity = None
        self.tenant_id = None
        self._deadline_ms = header["deadlineMs"]

    def get_remaining_time_in_millis(self):
        """Milliseconds until the agent ends this invocation."""
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        fields = (f"{name}={value}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"Context([{','.join(fields)}])"


def begin(header):
    """The context of a new request."""
    global _request_id
    _request_id = header["requestId"]
    if header["traceId"]:
        os.environ["_X_AMZN_TRACE_ID"] = header["traceId"]
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    return Context(header)


class _RequestFilter(logging.Filter):
    """Gives each record the id of the request being served."""

    def filter(self, record):
        record.aws_request_id = _request_id or ""
        return True


class _Stdout(logging.Handler):
    """Writes to whatever sys.stdout is at the time."""

    def emit(self, record):
        try:
            sys.stdout.write(self.format(record))
        except Exception:
            self.handleError(record)


def set_up_logging():
    """A root handler in AWS Lambda's format, so that `logging.getLogger().info(…)` works as functions expect."""
    handler = _Stdout()
    formatter = logging.Formatter(
        "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(_RequestFilter())
    logging.getLogger().addHandler(handler)

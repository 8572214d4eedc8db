"""Linear algebra with numpy: solves a system, finds the eigenvalues of its matrix, draws random numbers."""

import random
import secrets
import uuid

import numpy


def handler(event, context):
    matrix = numpy.array(event["matrix"], dtype=numpy.float64)
    right = numpy.array(event["right"], dtype=numpy.float64)
    return {
        "n": event["n"],
        "solution": numpy.linalg.solve(matrix, right).tolist(),
        "eigenvalues": numpy.linalg.eigvalsh(matrix).tolist(),
        "random": [
            secrets.token_hex(16),
            str(uuid.uuid4()),
            repr(random.random()),
            repr(float(numpy.random.default_rng().random())),
        ],
    }

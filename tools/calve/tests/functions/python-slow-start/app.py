"""Is never ready."""

import threading

threading.Event().wait()

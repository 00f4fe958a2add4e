"""Its place lets plain `pytest` import `tests.real` and what the tests share: the root goes on the path."""

import signal

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As for what a shell starts in the background. Tools that the tests start shall end by Ctrl-C all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)

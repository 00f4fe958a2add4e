"""Its place lets plain `pytest` import `tests.real` and what the tests share: the root goes on the path."""

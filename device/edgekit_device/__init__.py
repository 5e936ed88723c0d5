"""The device side of EdgeKit: a signed TFLite bundle, a camera, and FPS you can trust.

Importing this package loads the standard library only; OpenCV, numpy and the interpreter are imported by
the module that uses them.
"""

__version__ = "0.1.0"

"""Reading and writing models, in a format chosen by the file's content or name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The former name of a question, for the files that still use it."""

from pgnn.inference.question import Question as Problem

__all__ = ["Problem"]

"""Fine-tune small language models, and gate each checkpoint against the one in production."""

__version__ = "0.1.0"

"""What `llmlingua` offers, under the same names: see `docs/compat.md`."""

from tersely.middleware.compat_llmlingua import PromptCompressor

__all__ = ["PromptCompressor"]

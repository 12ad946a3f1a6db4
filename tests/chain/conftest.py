"""The whole platform, once for each module."""

from tests.parts.chain import LOCAL_TOOL_KEY, Chain, chain, platform

__all__ = ["LOCAL_TOOL_KEY", "Chain", "chain", "platform"]

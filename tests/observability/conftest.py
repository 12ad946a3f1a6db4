"""The whole platform, as tests/chain has it."""

from tests.chain.conftest import chain, platform

__all__ = ["chain", "platform"]

"""One file per market rule. Every module here is imported when rules are looked up by name; ``_`` marks helpers.

The package can be called: ``market.rules()`` is `market.facade.rules`, because ``from market import rules`` must give
that function while ``import market.rules.uniform_price as x`` must find the folder under the same name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from market.result import RuleInfo


class _CallablePackage(ModuleType):
    def __call__(self) -> list[RuleInfo]:
        """See `market.facade.rules`."""
        from market.facade import rules

        return rules()


sys.modules[__name__].__class__ = _CallablePackage

"""Where rules come from: TOML or YAML files, packs, settings; every problem has its line."""

from events.rules.files.from_settings import rules_of_settings
from events.rules.files.loading import BadRules, load_rules, rules_of_text
from events.rules.files.packs import PACKS, pack_names

__all__ = ["PACKS", "BadRules", "load_rules", "pack_names", "rules_of_settings", "rules_of_text"]

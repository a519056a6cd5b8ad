"""What `bridgectl doctor` looks at: one finding per thing the bridge depends on."""

from events.health.finding import Finding, Verdict
from events.health.machine import limit_findings, machine_findings
from events.health.servers import server_findings
from events.health.windows import windows_findings

__all__ = [
    "Finding",
    "Verdict",
    "limit_findings",
    "machine_findings",
    "server_findings",
    "windows_findings",
]

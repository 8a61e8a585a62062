"""What the page shows of waiting gates, without the figures of connections that the user may not see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone

from airflow_provider_aimlbilling.money.budget import Budget, BudgetUse
from airflow_provider_aimlbilling.money.top_up_needed import KnownBalance, WaitingFor, top_up_needed
from airflow_provider_aimlbilling.plugins.page.money_model import known_money, money
from airflow_provider_aimlbilling.plugins.page.task_models import (
    BudgetRow,
    GateRow,
    GatesResponse,
    TopUpSummary,
    page_path,
)
from airflow_provider_aimlbilling.plugins.page.waiting_gates import WaitingGate

# The last balance of a connection; None if none is known. It must not ask the API.
LatestBalance = Callable[[str], KnownBalance | None]
_Uses = dict[tuple[str, Budget], tuple[BudgetUse, datetime]]


def gates_response(
    gates: Sequence[WaitingGate],
    left_out: int,
    readable_connections: Callable[[Iterable[str]], set[str]],
    latest_balance: LatestBalance,
) -> GatesResponse:
    """
    Return the response about waiting gates.

    :param gates: the gates, of DAGs that the user may read.
    :param left_out: how many there are besides these.
    :param readable_connections: returns those of some connections that the user may see.
    :param latest_balance: returns the last balance that was read of a connection.
    """
    visible = readable_connections({gate.facts.connection_id for gate in gates if gate.facts.connection_id})
    balances = {connection_id: latest_balance(connection_id) for connection_id in sorted(visible)}
    uses = _budget_uses([gate for gate in gates if gate.facts.connection_id in visible])
    rows: list[GateRow] = []
    waits: dict[str, list[WaitingFor]] = {connection_id: [] for connection_id in balances}
    for gate in gates:
        if (connection_id := gate.facts.connection_id) in visible and connection_id is not None:
            wait = _wait(gate, uses)
            waits[connection_id].append(wait)
            rows.append(_row(gate, wait, balances[connection_id]))
        else:
            rows.append(_row(gate))
    return GatesResponse(
        gates=rows,
        left_out=left_out,
        elsewhere=len(gates) - sum(map(len, waits.values())),
        summaries=[_summary(name, waits[name], balances[name], len(gates), left_out) for name in balances],
        budgets=[
            BudgetRow(
                connection_id=connection_id,
                text=str(budget),
                left=known_money(use.left),
                spent=known_money(use.spent),
                read_at=read_at,
            )
            for (connection_id, budget), (use, read_at) in sorted(uses.items(), key=lambda item: str(item[0]))
        ],
    )


def _wait(gate: WaitingGate, uses: _Uses) -> WaitingFor:
    facts = gate.facts
    respects_key_limit = facts.respects_key_limit
    if respects_key_limit is None and gate.verdict:
        respects_key_limit = gate.verdict.had_key_limit
    use = uses.get((facts.connection_id or "", facts.budget)) if facts.budget else None
    return WaitingFor(facts.gate, respects_key_limit, facts.budget_text is not None, use[0] if use else None)


def _budget_uses(gates: Iterable[WaitingGate]) -> _Uses:
    """Return what the gates last read of their budgets, if the period has not ended."""
    now = datetime.now(timezone.utc)
    uses: _Uses = {}
    for gate in gates:
        use, read_at = gate.verdict.budget if gate.verdict else None, gate.verdict_at
        if use is None or read_at is None or use.budget != gate.facts.budget or not use.since <= now < use.until:
            continue
        key = (gate.facts.connection_id or "", use.budget)
        if key not in uses or read_at > uses[key][1]:
            uses[key] = (use, read_at)
    return uses


def _row(gate: WaitingGate, wait: WaitingFor | None = None, known: KnownBalance | None = None) -> GateRow:
    """
    Return one row.

    :param gate: the gate.
    :param wait: what it waits for; ``None`` if the user may not see the balance, which its last reading tells.
    :param known: the balance of its connection; ``None`` if it is not known.
    """
    facts, last = gate.facts, gate.verdict
    missing = short_of = reason = None
    if wait is not None and known is not None and (now := wait.verdict(known)):
        missing, short_of, reason = known.missing(now), now.short_of, known.reason(now)
    elif wait is not None:
        short_of, reason = (last.short_of, last.reason) if last else (None, facts.last_seen)
    limits = ["the key's limit"] if facts.respects_key_limit else []
    return GateRow(
        dag_id=gate.dag_id,
        run_id=gate.run_id,
        task_id=gate.task_id,
        map_index=gate.map_index,
        state=gate.state,
        since=gate.since,
        connection_id=facts.connection_id,
        asks=facts.asks,
        limits=[*limits, facts.budget_text] if facts.budget_text else limits,
        missing=money(missing),
        short_of=short_of,
        reason=reason or None,
        deadline=gate.deadline,
        path=page_path(gate.dag_id, gate.run_id, gate.task_id, gate.map_index),
    )


def _summary(
    connection_id: str, waits: Sequence[WaitingFor], known: KnownBalance | None, shown: int, left_out: int
) -> TopUpSummary:
    needed = top_up_needed(waits, known)
    cut = f" Only the {shown:,} gates that have waited longest are counted." if left_out else ""
    return TopUpSummary(
        connection_id=connection_id, waiting=needed.waiting, top_up=money(needed.amount), text=needed.text + cut
    )

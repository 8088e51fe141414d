"""What metrics want to know of a pool at one moment."""

from gateway.routing.pool import Pool
from gateway.routing.table import RoutingTable
from gateway.telemetry.snapshot import PoolReading


def read_pool(pool: Pool) -> PoolReading:
    """The pool's queue, circuits and ready replicas, and which releases are not retired."""
    table = pool.table
    return PoolReading(
        queue_requests=pool.waiting,
        circuits=pool.circuits(),
        ready_replicas={
            alias.name: sum(
                replica.alias == alias.name and replica.model_for(alias.serving_release_id) is not None
                for replica in table.replicas
            )
            for alias in table.aliases.values()
        },
        served=served_releases(table) if table.aliases else None,
    )


def served_releases(table: RoutingTable) -> frozenset[str]:
    """Names of the releases that an alias points to, or that a replica holds or is to hold."""
    ids: set[str | None] = set()
    for alias in table.aliases.values():
        ids |= {alias.serving_release_id, alias.canary_release_id}
    for replica in table.replicas:
        ids |= {replica.weights_release_id, *replica.adapters, *replica.desired}
    return frozenset(release.name for release in table.releases.values() if release.id in ids)

-- What waits, for the metrics: counted in the database, since a function that is scaled to zero counts nothing.

-- dead-letter: when this was given up for good; null while it is sent again. An operator's replay is newer, or it waits.
ALTER TABLE dead_letters ADD COLUMN given_up_at timestamptz;
CREATE INDEX dead_letters_waiting ON dead_letters (given_up_at)
    WHERE given_up_at IS NOT NULL AND (replayed_at IS NULL OR replayed_at < given_up_at);

-- session-sweep, when its metrics are read: turns by status, answers on their way (how many, and the oldest's age in seconds),
-- dead letters that wait for an operator, webhooks that are switched off. Each by an index that holds only what is open;
-- p_limit bounds what a long queue costs, and the ages of turns beyond it.
CREATE FUNCTION waiting_state(p_limit integer) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'turns', (
            SELECT coalesce(jsonb_object_agg(t.status, jsonb_build_array(t.count, t.age)), '{}')
            FROM (SELECT u.status, count(*) AS count, extract(epoch FROM clock_timestamp() - min(u.recorded_at)) AS age
                  FROM (SELECT status, recorded_at FROM request_logs
                        WHERE status IN ('queued', 'processing') LIMIT p_limit) u
                  GROUP BY u.status) t),
        'undelivered', (
            SELECT jsonb_build_array(count(*), coalesce(extract(epoch FROM clock_timestamp() - min(u.completed_at)), 0))
            FROM (SELECT completed_at FROM request_logs
                  WHERE completed_at IS NOT NULL AND delivered_at IS NULL AND undeliverable_at IS NULL
                    AND integration_type NOT IN ('web', 'cli')
                  ORDER BY completed_at LIMIT p_limit) u),
        'dead_letters', (
            SELECT count(*) FROM dead_letters
            WHERE given_up_at IS NOT NULL AND (replayed_at IS NULL OR replayed_at < given_up_at)),
        'webhooks_off', (SELECT count(*) FROM integration_configs WHERE delivery ? 'disabled_at'))
$$;

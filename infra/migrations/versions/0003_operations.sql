-- The sweep, deliveries that are given up, and webhooks that are gone (docs/operations.md, "What the sweep costs").

-- response-dispatch: it was not sent after all, because too much is on its way to that place; as if it had not begun.
CREATE FUNCTION release_delivery(p_request_id text) RETURNS void
LANGUAGE sql AS $$
    UPDATE request_logs SET delivery_until = NULL, delivery_attempts = delivery_attempts - 1
    WHERE request_id = p_request_id AND delivered_at IS NULL AND delivery_until IS NOT NULL
$$;

-- response-dispatch: the place will never take it.
CREATE FUNCTION refuse_delivery(p_request_id text, p_error text) RETURNS void
LANGUAGE sql AS $$
    UPDATE request_logs SET delivery_until = NULL, delivery_error = p_error, undeliverable_at = clock_timestamp()
    WHERE request_id = p_request_id AND delivered_at IS NULL
$$;

-- dead-letter: the broker gave the delivery up. What the channel said about it is worth more than that, and is kept.
CREATE FUNCTION give_up_delivery(p_request_id text, p_error text) RETURNS void
LANGUAGE sql AS $$
    UPDATE request_logs SET delivery_error = coalesce(delivery_error, p_error)
    WHERE request_id = p_request_id AND completed_at IS NOT NULL AND delivered_at IS NULL
$$;

-- response-dispatch: a webhook said that it is gone. Its row, the tool's own or that of all tools, is switched off, if it still
-- names that URL. True for the one who did it.
CREATE FUNCTION disable_webhook(p_type text, p_key text, p_url text, p_reason text) RETURNS boolean
LANGUAGE sql AS $$
    WITH switched AS (
        UPDATE integration_configs
        SET delivery = delivery || jsonb_build_object('disabled_at', date_trunc('second', now()), 'disabled_reason', p_reason),
            updated_at = now()
        WHERE integration_type = p_type AND integration_key IN ('', p_key)
          AND delivery ->> 'webhook_url' = p_url AND NOT delivery ? 'disabled_at'
        RETURNING 1)
    SELECT EXISTS (SELECT FROM switched)
$$;

-- session-sweep: one batch of the sessions whose time to be looked at has come. An idle one is expired; of one that lives on,
-- requests past retention are deleted.
CREATE FUNCTION sweep_active(p_limit integer, p_retention interval) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_ids     uuid[];
    v_expired integer;
    v_deleted integer;
BEGIN
    SELECT array_agg(d.session_id) INTO v_ids
    FROM (SELECT session_id FROM request_sessions WHERE status = 'active' AND check_at <= now()
          ORDER BY check_at LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED) d;
    IF v_ids IS NULL THEN
        RETURN jsonb_build_object('looked', 0, 'expired', 0, 'requests', 0);
    END IF;
    UPDATE request_sessions SET status = 'expired', check_at = created_at, updated_at = clock_timestamp()
    WHERE session_id = ANY (v_ids) AND expires_at <= now();
    GET DIAGNOSTICS v_expired = ROW_COUNT;
    DELETE FROM request_logs
    WHERE request_id IN (
        SELECT r.request_id FROM request_sessions s JOIN request_logs r USING (session_id)
        WHERE s.session_id = ANY (v_ids) AND s.status = 'active' AND s.created_at < now() - p_retention
          AND r.accepted_at < now() - p_retention AND r.completed_at IS NOT NULL
        LIMIT p_limit);
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    UPDATE request_sessions s
    SET check_at = CASE WHEN v_deleted = p_limit AND s.created_at < now() - p_retention THEN s.check_at    -- there may be more
                        ELSE least(s.expires_at, now() + interval '1 day') END
    WHERE s.session_id = ANY (v_ids) AND s.status = 'active';
    RETURN jsonb_build_object('looked', cardinality(v_ids), 'expired', v_expired, 'requests', v_deleted);
END
$$;

-- session-sweep: one batch of past sessions with requests past retention. The requests go; a session goes with its last one.
CREATE FUNCTION sweep_past(p_limit integer, p_retention interval) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_ids      uuid[];
    v_requests integer;
    v_sessions integer;
BEGIN
    SELECT array_agg(d.session_id) INTO v_ids
    FROM (SELECT session_id FROM request_sessions WHERE status <> 'active' AND check_at < now() - p_retention
          ORDER BY check_at LIMIT p_limit FOR UPDATE SKIP LOCKED) d;
    IF v_ids IS NULL THEN
        RETURN jsonb_build_object('looked', 0, 'requests', 0, 'sessions', 0);
    END IF;
    DELETE FROM request_logs
    WHERE request_id IN (
        SELECT request_id FROM request_logs
        WHERE session_id = ANY (v_ids) AND accepted_at < now() - p_retention AND completed_at IS NOT NULL
        LIMIT p_limit);
    GET DIAGNOSTICS v_requests = ROW_COUNT;
    DELETE FROM request_sessions s
    WHERE s.session_id = ANY (v_ids) AND s.expires_at < now() - p_retention
      AND NOT EXISTS (SELECT FROM request_logs r WHERE r.session_id = s.session_id);
    GET DIAGNOSTICS v_sessions = ROW_COUNT;
    IF v_requests < p_limit THEN                    -- else there may be more in them: they stay first in line
        UPDATE request_sessions s
        SET check_at = greatest(now() - p_retention + interval '1 hour',    -- not sooner: what is unfinished keeps its session
                                (SELECT min(r.accepted_at) FROM request_logs r WHERE r.session_id = s.session_id),
                                CASE WHEN NOT EXISTS (SELECT FROM request_logs r WHERE r.session_id = s.session_id)
                                     THEN s.expires_at END)
        WHERE s.session_id = ANY (v_ids);
    END IF;
    RETURN jsonb_build_object('looked', cardinality(v_ids), 'requests', v_requests, 'sessions', v_sessions);
END
$$;

-- session-sweep: one batch of requests that were refused before they had a session.
CREATE FUNCTION sweep_sessionless(p_limit integer, p_retention interval) RETURNS integer
LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM request_logs
        WHERE request_id IN (SELECT request_id FROM request_logs
                             WHERE session_id IS NULL AND recorded_at < now() - p_retention AND completed_at IS NOT NULL
                             ORDER BY recorded_at LIMIT p_limit FOR UPDATE SKIP LOCKED)
        RETURNING 1)
    SELECT count(*)::integer FROM gone
$$;

-- session-sweep: one batch of dead letters that nothing was heard of for the time of retention.
CREATE FUNCTION sweep_dead_letters(p_limit integer, p_retention interval) RETURNS integer
LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM dead_letters
        WHERE dead_letter_id IN (SELECT dead_letter_id FROM dead_letters WHERE updated_at < now() - p_retention
                                 ORDER BY updated_at LIMIT p_limit FOR UPDATE SKIP LOCKED)
        RETURNING 1)
    SELECT count(*)::integer FROM gone
$$;

-- session-sweep: unfinished requests of sessions in which nothing moves: recorded long ago, no live lease, no recent attempt at
-- any of the session's turns, not sent again recently. In the form that record_request gives a recorded request.
CREATE FUNCTION stalled_requests(p_stalled interval, p_max integer, p_limit integer) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'spent', f.resumes >= p_max, 'outcome', CASE WHEN f.opened_session THEN 'created' ELSE 'updated' END,
        'session_id', f.session_id, 'recorded_at', f.recorded_at, 'request', f.normalized_request)), '[]')
    FROM (SELECT r.resumes, r.opened_session, r.session_id, r.recorded_at, r.normalized_request
          FROM request_logs r JOIN request_sessions s USING (session_id)
          WHERE r.status IN ('queued', 'processing') AND r.recorded_at < now() - p_stalled
            AND coalesce(r.resumed_at < now() - p_stalled, true)
            AND coalesce(s.lease_until < now(), true) AND coalesce(s.turn_claimed_at < now() - p_stalled, true)
          ORDER BY r.session_id, r.accepted_at, r.request_id LIMIT p_limit) f
$$;

-- session-sweep: these session events were sent again. Two sweeps at once count one time.
CREATE FUNCTION note_resumed(p_request_ids text[], p_stalled interval) RETURNS integer
LANGUAGE sql AS $$
    WITH noted AS (
        UPDATE request_logs SET resumes = resumes + 1, resumed_at = now()
        WHERE request_id = ANY (p_request_ids) AND status IN ('queued', 'processing')
          AND coalesce(resumed_at < now() - p_stalled, true)
        RETURNING 1)
    SELECT count(*)::integer FROM noted
$$;

-- session-sweep: answers that should have arrived long ago and that nothing is being done about. `spent`: sent often enough, or
-- older than a day; nobody waits for those any more.
CREATE FUNCTION undelivered_answers(p_stalled interval, p_max integer, p_limit integer) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'spent', (f.r).redeliveries >= p_max OR (f.r).completed_at < now() - interval '1 day', 'answer', answer_of(f.r))), '[]')
    FROM (SELECT r FROM request_logs r
          WHERE r.completed_at IS NOT NULL AND r.delivered_at IS NULL AND r.undeliverable_at IS NULL
            AND r.integration_type NOT IN ('web', 'cli') AND r.completed_at < now() - p_stalled
            AND coalesce(r.redelivered_at < now() - p_stalled, true) AND coalesce(r.delivery_until < now(), true)
          ORDER BY r.completed_at LIMIT p_limit) f
$$;

-- session-sweep: these answers' events were sent again.
CREATE FUNCTION note_redelivered(p_request_ids text[], p_stalled interval) RETURNS integer
LANGUAGE sql AS $$
    WITH noted AS (
        UPDATE request_logs SET redeliveries = redeliveries + 1, redelivered_at = now()
        WHERE request_id = ANY (p_request_ids) AND delivered_at IS NULL
          AND coalesce(redelivered_at < now() - p_stalled, true)
        RETURNING 1)
    SELECT count(*)::integer FROM noted
$$;

-- session-sweep: these answers are given up; operators find them by undeliverable_at.
CREATE FUNCTION note_undeliverable(p_request_ids text[], p_error text) RETURNS integer
LANGUAGE sql AS $$
    WITH noted AS (
        UPDATE request_logs SET undeliverable_at = now(), delivery_error = coalesce(delivery_error, p_error)
        WHERE request_id = ANY (p_request_ids) AND delivered_at IS NULL AND undeliverable_at IS NULL
          AND coalesce(delivery_until < now(), true)
        RETURNING 1)
    SELECT count(*)::integer FROM noted
$$;

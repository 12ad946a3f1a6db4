-- Back-pressure, the sweep, deliveries that are given up, and webhooks that are gone. No column that every request updates
-- is indexed here: a session's row keeps its HOT updates (docs/operations.md, "What the sweep costs").

ALTER TABLE request_sessions
    -- When session-sweep looks at this session next, not when it ends: a request moves expires_at and leaves this alone,
    -- and the sweep moves it on. While active: not later than expires_at. Afterwards: not later than its oldest request.
    ADD COLUMN check_at        timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN turn_claimed_at timestamptz;             -- the newest attempt at a turn of this session

ALTER TABLE request_logs
    ADD COLUMN resumes          integer NOT NULL DEFAULT 0,     -- how often session-sweep sent its session event again
    ADD COLUMN resumed_at       timestamptz,
    ADD COLUMN redeliveries     integer NOT NULL DEFAULT 0,     -- how often session-sweep sent its answer's event again
    ADD COLUMN redelivered_at   timestamptz,
    ADD COLUMN undeliverable_at timestamptz;                    -- its delivery was given up; delivery_error says why

CREATE INDEX request_sessions_check ON request_sessions (check_at) WHERE status = 'active';
CREATE INDEX request_sessions_past ON request_sessions (check_at) WHERE status <> 'active';
-- Requests that were refused before they had a session; the others are found by their session.
CREATE INDEX request_logs_sessionless ON request_logs (recorded_at) WHERE session_id IS NULL;
-- Answers from before this migration that never arrived are not sent now: nobody waits for them any more.
UPDATE request_logs SET undeliverable_at = now()
WHERE integration_type NOT IN ('web', 'cli') AND completed_at < now() - interval '1 hour' AND delivered_at IS NULL;
-- Answers on their way, of integrations whose answers are sent: small, whatever the table's size.
CREATE INDEX request_logs_undelivered ON request_logs (completed_at)
    WHERE completed_at IS NOT NULL AND delivered_at IS NULL AND undeliverable_at IS NULL
      AND integration_type NOT IN ('web', 'cli');
CREATE INDEX dead_letters_age ON dead_letters (updated_at);

-- session-upsert, as before, and: a session's queue is bounded. The request that is one too many is recorded as failed and
-- answered so; the session's next turn does not count it.
CREATE OR REPLACE FUNCTION record_request(p jsonb, p_event_id text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_id      text := p ->> 'request_id';
    v_type    text := p ->> 'integration_type';
    v_config  integration_configs;
    v_log     request_logs;
    v_session request_sessions;
    v_key     text;
    v_opened  boolean := false;
    v_full    boolean;
    v_place   timestamptz;
BEGIN
    SELECT * INTO v_log FROM request_logs WHERE request_id = v_id;
    IF NOT FOUND THEN
        v_config := integration_config(v_type, coalesce(p ->> 'integration_key', ''));
        IF NOT v_config.enabled THEN
            INSERT INTO request_logs (request_id, integration_type, integration_key, user_id, request_type, request_content,
                                      normalized_request, status, error_code, error_message, cloudevent_id, accepted_at,
                                      completed_at, processing_time_ms)
            VALUES (v_id, v_type, coalesce(p ->> 'integration_key', ''), p ->> 'user_id', p ->> 'request_type', p ->> 'content',
                    p, 'failed', 'integration_disabled', 'Requests from here are switched off at the moment.', p_event_id,
                    (p ->> 'accepted_at')::timestamptz, clock_timestamp(), 0)
            ON CONFLICT (request_id) DO NOTHING;
            IF FOUND THEN
                PERFORM pg_notify('turns', v_id);
            END IF;
        ELSE
            v_key := CASE WHEN v_config.session_scope = 'thread' THEN coalesce(p ->> 'shared_key', p ->> 'conversation_key')
                          ELSE p ->> 'conversation_key' END;
            LOOP
                SELECT * INTO v_session FROM request_sessions
                WHERE integration_type = v_type AND conversation_key = v_key AND status = 'active' FOR UPDATE;
                IF FOUND AND v_session.expires_at > clock_timestamp() THEN
                    EXIT;
                ELSIF FOUND THEN
                    UPDATE request_sessions
                    SET status = 'expired', check_at = created_at, updated_at = clock_timestamp()
                    WHERE session_id = v_session.session_id;
                END IF;
                INSERT INTO request_sessions (integration_type, user_id, conversation_key, channel_id, thread_id,
                                              external_session_id, current_agent_id, integration_metadata, expires_at,
                                              check_at)
                VALUES (v_type, p ->> 'user_id', v_key, p ->> 'channel_id', p ->> 'thread_id',
                        p ->> 'external_session_id', v_config.default_agent_id, coalesce(p -> 'metadata', '{}'),
                        clock_timestamp() + v_config.idle_timeout,
                        clock_timestamp() + least(v_config.idle_timeout, interval '1 day'))
                ON CONFLICT (integration_type, conversation_key) WHERE status = 'active' DO NOTHING
                RETURNING * INTO v_session;
                v_opened := FOUND;
                EXIT WHEN v_opened;                 -- else somebody else just made it: take theirs
            END LOOP;
            -- Exact, because the session's row is locked; the partial index holds only what is unfinished.
            v_full := NOT v_opened AND (SELECT count(*) FROM request_logs
                                        WHERE session_id = v_session.session_id AND status IN ('queued', 'processing')
                                       ) >= v_config.queue_limit;
            -- A turn that comes after a later one was started stands behind all that are known: the order kept is the order
            -- shown, and two that are late keep theirs.
            v_place := (p ->> 'accepted_at')::timestamptz;
            IF v_place <= v_session.last_turn_at THEN
                SELECT max(accepted_at) + interval '1 microsecond' INTO v_place FROM request_logs
                WHERE session_id = v_session.session_id;
            END IF;
            INSERT INTO request_logs (request_id, session_id, integration_type, integration_key, user_id, request_type,
                                      request_content, normalized_request, opened_session, cloudevent_id, accepted_at,
                                      status, error_code, error_message, completed_at, processing_time_ms)
            VALUES (v_id, v_session.session_id, v_type, coalesce(p ->> 'integration_key', ''), p ->> 'user_id',
                    p ->> 'request_type', p ->> 'content', p, v_opened, p_event_id,
                    v_place,
                    CASE WHEN v_full THEN 'failed' ELSE 'queued' END,
                    CASE WHEN v_full THEN 'queue_full' END,
                    CASE WHEN v_full THEN 'Your earlier messages in this conversation are still being worked on. '
                                          'Please wait for their answers, then send this message again.' END,
                    CASE WHEN v_full THEN clock_timestamp() END, CASE WHEN v_full THEN 0 END)
            ON CONFLICT (request_id) DO NOTHING;
            IF FOUND AND v_full THEN
                PERFORM pg_notify('turns', v_id);
            ELSIF FOUND THEN
                UPDATE request_sessions
                SET total_requests = total_requests + 1, last_request_id = v_id, last_request_at = clock_timestamp(),
                    expires_at = clock_timestamp() + v_config.idle_timeout, updated_at = clock_timestamp()
                WHERE session_id = v_session.session_id;
            ELSIF v_opened THEN                     -- the same id came with another conversation: leave no empty session
                DELETE FROM request_sessions WHERE session_id = v_session.session_id;
            END IF;
        END IF;
        SELECT * INTO v_log FROM request_logs WHERE request_id = v_id;
    END IF;
    IF v_log.session_id IS NULL OR v_log.error_code = 'queue_full' THEN     -- refused: there is an answer, and it is no
        RETURN jsonb_build_object('outcome', 'failed', 'answer', answer_of(v_log));
    END IF;
    RETURN jsonb_build_object(
        'outcome', CASE WHEN v_log.opened_session THEN 'created' ELSE 'updated' END,
        'session_id', v_log.session_id, 'recorded_at', v_log.recorded_at, 'request', v_log.normalized_request);
END
$$;

-- agent-invoke, as before, and: the session's row says when a turn was last tried, so that the sweep leaves alone what moves.
CREATE OR REPLACE FUNCTION claim_turn(p_request_id text, p_owner text, p_lease interval, p_history integer) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_log     request_logs;
    v_session request_sessions;
    v_ahead   integer;
BEGIN
    SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'unknown');
    ELSIF v_log.status IN ('completed', 'failed') THEN
        RETURN jsonb_build_object('outcome', 'finished', 'answer', answer_of(v_log));
    END IF;
    SELECT * INTO v_session FROM request_sessions WHERE session_id = v_log.session_id FOR UPDATE;
    SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id;      -- again, now that nobody else can move it
    IF v_log.status IN ('completed', 'failed') THEN
        RETURN jsonb_build_object('outcome', 'finished', 'answer', answer_of(v_log));
    END IF;
    SELECT count(*) INTO v_ahead FROM request_logs
    WHERE session_id = v_log.session_id AND status IN ('queued', 'processing')
      AND (accepted_at, request_id) < (v_log.accepted_at, v_log.request_id);
    -- A lease of this very claim is none of somebody else: the claim is being run again, after its connection was cut.
    IF v_ahead > 0 OR (v_session.lease_until > clock_timestamp() AND v_session.lease_owner <> p_owner) THEN
        RETURN jsonb_build_object('outcome', 'busy', 'ahead', v_ahead, 'session_id', v_log.session_id,
                                  'lease_until', v_session.lease_until);
    END IF;
    UPDATE request_sessions
    SET lease_owner = p_owner, lease_until = clock_timestamp() + p_lease, lease_fence = lease_fence + 1,
        last_turn_at = greatest(last_turn_at, v_log.accepted_at), turn_claimed_at = clock_timestamp()
    WHERE session_id = v_log.session_id;
    UPDATE request_logs
    -- A call of the model is counted before it is made: who is killed in the middle cannot count it afterwards.
    SET status = 'processing', attempts = attempts + 1, model_calls = model_calls + 1,
        started_at = coalesce(started_at, clock_timestamp())
    WHERE request_id = p_request_id;
    RETURN jsonb_build_object(
        'outcome', 'claimed', 'session_id', v_log.session_id, 'fence', v_session.lease_fence + 1,
        'attempt', v_log.attempts + 1, 'agent_id', v_session.current_agent_id, 'request', v_log.normalized_request,
        'taken_over', v_session.lease_owner <> p_owner,
        'history', coalesce((
            SELECT jsonb_agg(jsonb_build_array(h.request_content, h.response_content) ORDER BY h.accepted_at, h.request_id)
            FROM (SELECT accepted_at, request_id, request_content, response_content FROM request_logs
                  WHERE session_id = v_log.session_id AND status = 'completed'
                    AND (accepted_at, request_id) < (v_log.accepted_at, v_log.request_id)
                  ORDER BY accepted_at DESC, request_id DESC LIMIT p_history) h), '[]'));
END
$$;

-- response-dispatch, as before, and: what would go to a webhook that is switched off is not sent, and that is recorded.
CREATE OR REPLACE FUNCTION begin_delivery(p_request_id text, p_lease interval) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_log    request_logs;
    v_config integration_configs;
BEGIN
    SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'unknown');
    ELSIF v_log.completed_at IS NULL THEN
        RETURN jsonb_build_object('outcome', 'unfinished');
    ELSIF v_log.delivered_at IS NOT NULL THEN
        RETURN jsonb_build_object('outcome', 'delivered', 'reference', v_log.delivery_reference);
    ELSIF v_log.delivery_until > clock_timestamp() THEN
        RETURN jsonb_build_object('outcome', 'busy');
    END IF;
    v_config := integration_config(v_log.integration_type, v_log.integration_key);
    IF v_config.delivery ? 'disabled_at' THEN
        UPDATE request_logs
        SET undeliverable_at = coalesce(undeliverable_at, clock_timestamp()),
            delivery_error = 'Not sent: the webhook is switched off since ' || (v_config.delivery ->> 'disabled_at') || '.'
        WHERE request_id = p_request_id;
        RETURN jsonb_build_object('outcome', 'disabled');
    END IF;
    UPDATE request_logs SET delivery_attempts = delivery_attempts + 1, delivery_until = clock_timestamp() + p_lease
    WHERE request_id = p_request_id;
    RETURN jsonb_build_object('outcome', 'send', 'attempt', v_log.delivery_attempts + 1, 'answer', answer_of(v_log),
                              'request', v_log.normalized_request, 'delivery', v_config.delivery);
END
$$;

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

-- dead-letter, as before, but it looks at the request again once the session is locked: a worker may have taken it up meanwhile,
-- and a request that is being worked on must not be failed under the worker's hands.
CREATE OR REPLACE FUNCTION fail_request(p_request_id text, p_request jsonb, p_event_id text, p_code text, p_message text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_log     request_logs;
    v_session request_sessions;
BEGIN
    IF p_request IS NOT NULL THEN
        INSERT INTO request_logs (request_id, integration_type, integration_key, user_id, request_type, request_content,
                                  normalized_request, status, error_code, error_message, cloudevent_id, accepted_at,
                                  completed_at, processing_time_ms)
        VALUES (p_request_id, p_request ->> 'integration_type', coalesce(p_request ->> 'integration_key', ''),
                p_request ->> 'user_id', coalesce(p_request ->> 'request_type', 'message'), p_request ->> 'content', p_request,
                'failed', p_code, p_message, p_event_id, (p_request ->> 'accepted_at')::timestamptz, clock_timestamp(),
                extract(epoch FROM clock_timestamp() - (p_request ->> 'accepted_at')::timestamptz) * 1000)
        ON CONFLICT (request_id) DO NOTHING;
    END IF;
    SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'unknown');
    END IF;
    IF v_log.session_id IS NOT NULL THEN
        SELECT * INTO v_session FROM request_sessions WHERE session_id = v_log.session_id FOR UPDATE;
        SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id;
        IF v_log.status = 'processing' AND v_session.lease_until > clock_timestamp() THEN
            RETURN jsonb_build_object('outcome', 'busy');
        END IF;
        UPDATE request_logs
        SET status = 'failed', error_code = p_code, error_message = p_message, completed_at = clock_timestamp(),
            processing_time_ms = extract(epoch FROM clock_timestamp() - (normalized_request ->> 'accepted_at')::timestamptz) * 1000
        WHERE request_id = p_request_id AND status IN ('queued', 'processing')
        RETURNING * INTO v_log;
        IF NOT FOUND THEN
            SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id;
        END IF;
    END IF;
    PERFORM pg_notify('turns', coalesce(v_log.session_id::text || ' ', '') || p_request_id);
    RETURN jsonb_build_object('outcome', 'finished', 'answer', answer_of(v_log));
END
$$;

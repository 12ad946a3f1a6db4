-- The durable steps of the chain, one function each, so that a step is one statement, one round trip and one commit.
-- Every statement inside sees what was committed before it (READ COMMITTED, volatile functions), which is what makes
-- "lock the session, then look again" right. Rationale: docs/adr/0005.

-- What an integration may do: the tool's own row over the integration's row over the defaults.
CREATE FUNCTION integration_config(p_type text, p_key text) RETURNS integration_configs
LANGUAGE sql STABLE AS $$
    SELECT p_type, p_key,
           coalesce(bool_and(c.enabled), true),
           (array_agg(c.default_agent_id ORDER BY c.integration_key DESC) FILTER (WHERE c.default_agent_id IS NOT NULL))[1],
           coalesce((array_agg(c.session_scope ORDER BY c.integration_key DESC) FILTER (WHERE c.session_scope IS NOT NULL))[1], 'user'),
           coalesce((array_agg(c.idle_timeout ORDER BY c.integration_key DESC) FILTER (WHERE c.idle_timeout IS NOT NULL))[1], interval '12 hours'),
           coalesce((array_agg(c.queue_limit ORDER BY c.integration_key DESC) FILTER (WHERE c.queue_limit IS NOT NULL))[1], 50),
           coalesce((array_agg(c.delivery ORDER BY c.integration_key DESC) FILTER (WHERE c.delivery <> '{}'))[1], '{}'),
           now(), now()
    FROM integration_configs c
    WHERE c.integration_type = p_type AND c.integration_key IN ('', p_key)
$$;

-- The answer of a finished request, as the agent.response-ready event carries it. Made from the row alone: the same
-- request gives the same bytes whenever it is asked.
CREATE FUNCTION answer_of(r request_logs) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'request_id', r.request_id, 'session_id', r.session_id, 'integration_type', r.integration_type,
        'integration_key', r.integration_key, 'user_id', r.user_id, 'status', r.status, 'agent_id', r.agent_id,
        'content', r.response_content,
        'error', CASE WHEN r.error_code IS NULL THEN NULL
                      ELSE jsonb_build_object('code', r.error_code, 'message', r.error_message) END,
        'completed_at', r.completed_at,
        'conversation_key', r.normalized_request -> 'conversation_key',
        'traceparent', r.normalized_request -> 'traceparent')
$$;

-- session-upsert: find or create the session of a conversation and log the request once. A session's queue is bounded: the
-- request that is one too many is recorded as failed and answered so; the session's next turn does not count it.
CREATE FUNCTION record_request(p jsonb, p_event_id text) RETURNS jsonb
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

-- agent-invoke: take the session's lease for a turn, if it is this turn's time, and bring what the agent needs. The session's
-- row says when a turn was last tried, so that the sweep leaves alone what moves.
CREATE FUNCTION claim_turn(p_request_id text, p_owner text, p_lease interval, p_history integer) RETURNS jsonb
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

-- agent-invoke: commit the turn's answer and give the lease back, if it is still ours.
CREATE FUNCTION finish_turn(p_request_id text, p_owner text, p_fence bigint, p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_log request_logs;
BEGIN
    UPDATE request_sessions s
    SET lease_owner = NULL, lease_until = NULL, current_agent_id = coalesce(p ->> 'agent_id', current_agent_id),
        input_tokens = input_tokens + (p ->> 'input_tokens')::integer,
        output_tokens = output_tokens + (p ->> 'output_tokens')::integer, updated_at = clock_timestamp()
    FROM request_logs r
    WHERE r.request_id = p_request_id AND s.session_id = r.session_id
      AND s.lease_owner = p_owner AND s.lease_fence = p_fence;
    IF FOUND THEN
        UPDATE request_logs
        SET status = p ->> 'status', agent_id = p ->> 'agent_id', response_content = p ->> 'content',
            response_metadata = p -> 'metadata', error_code = p ->> 'error_code', error_message = p ->> 'error_message',
            model_calls = model_calls + greatest((p ->> 'model_calls')::integer - 1, 0), completed_at = clock_timestamp(),
            processing_time_ms = extract(epoch FROM clock_timestamp() - (normalized_request ->> 'accepted_at')::timestamptz) * 1000
        WHERE request_id = p_request_id AND status = 'processing'
        RETURNING * INTO v_log;
        IF FOUND THEN
            PERFORM pg_notify('turns', v_log.session_id || ' ' || p_request_id);
            RETURN jsonb_build_object('outcome', 'committed', 'answer', answer_of(v_log),
                                      'processing_time_ms', v_log.processing_time_ms);
        END IF;
    END IF;
    SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id;
    IF v_log.status IN ('completed', 'failed') THEN
        RETURN jsonb_build_object('outcome', 'finished', 'answer', answer_of(v_log));
    END IF;
    RETURN jsonb_build_object('outcome', 'lost');
END
$$;

-- agent-invoke: give the lease back without an answer, because the agent could not be asked now.
CREATE FUNCTION release_turn(p_request_id text, p_owner text, p_fence bigint, p_model_calls integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_session uuid;
BEGIN
    UPDATE request_sessions s SET lease_owner = NULL, lease_until = NULL
    FROM request_logs r
    WHERE r.request_id = p_request_id AND s.session_id = r.session_id
      AND s.lease_owner = p_owner AND s.lease_fence = p_fence
    RETURNING s.session_id INTO v_session;
    IF FOUND THEN
        UPDATE request_logs SET status = 'queued', model_calls = model_calls + p_model_calls
        WHERE request_id = p_request_id AND status = 'processing';
        PERFORM pg_notify('turns', v_session || ' ' || p_request_id);
    END IF;
END
$$;

-- dead-letter: the request cannot be finished; end it as failed, whether or not it was ever recorded. It is looked at again
-- once its session is locked: a worker may have taken it up meanwhile.
CREATE FUNCTION fail_request(p_request_id text, p_request jsonb, p_event_id text, p_code text, p_message text) RETURNS jsonb
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

-- response-dispatch: what is to be sent where, taken for p_lease so that a second delivery of the event does not send too.
-- What would go to a webhook that is switched off is not sent, and that is recorded.
CREATE FUNCTION begin_delivery(p_request_id text, p_lease interval) RETURNS jsonb
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

-- response-dispatch: it was sent (p_error null), or it was not and may be tried again.
CREATE FUNCTION finish_delivery(p_request_id text, p_reference text, p_error text) RETURNS void
LANGUAGE sql AS $$
    UPDATE request_logs
    SET delivery_until = NULL, delivery_error = p_error,
        delivered_at = CASE WHEN p_error IS NULL THEN clock_timestamp() END,
        delivery_reference = coalesce(p_reference, delivery_reference)
    WHERE request_id = p_request_id AND delivered_at IS NULL
$$;

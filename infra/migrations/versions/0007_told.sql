-- Readers that wait are told the answer itself: one read less for each request.

-- A request as request-status reads it.
CREATE FUNCTION request_row(r request_logs) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'request_id', r.request_id, 'session_id', r.session_id, 'integration_type', r.integration_type, 'status', r.status,
        'agent_id', r.agent_id, 'created_at', r.accepted_at, 'completed_at', r.completed_at,
        'processing_time_ms', r.processing_time_ms, 'content', r.response_content, 'metadata', r.response_metadata,
        'error_code', r.error_code, 'error_message', r.error_message, 'user_id', r.user_id,
        'integration_key', r.integration_key)
$$;

-- agent-invoke: commit the turn's answer and give the lease back, if it is still ours. Who waits for the answer is told it, so
-- that it need not be read: an answer that is too long, and every end by other ways, is told by 'turns' alone and read.
CREATE OR REPLACE FUNCTION finish_turn(p_request_id text, p_owner text, p_fence bigint, p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_log request_logs;
    v_row text;
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
            v_row := p_request_id || ' ' || request_row(v_log)::text;
            IF octet_length(v_row) < 8000 THEN              -- all that PostgreSQL takes
                PERFORM pg_notify('answers', v_row);
            END IF;
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

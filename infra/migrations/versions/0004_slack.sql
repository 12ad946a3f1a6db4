-- Slack: replies in threads that we are in, and the "thinking" sign that becomes the answer.

-- session-upsert: a reply in a thread that does not mention us is a request only of somebody who is in conversation with us
-- there. Ingest has no database to know; nothing of other people's talk is kept.
CREATE FUNCTION record_thread_reply(p jsonb, p_event_id text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_config integration_configs := integration_config(p ->> 'integration_type', coalesce(p ->> 'integration_key', ''));
BEGIN
    IF NOT EXISTS (SELECT FROM request_logs WHERE request_id = p ->> 'request_id')
       AND NOT (v_config.enabled AND EXISTS (
           SELECT FROM request_sessions
           WHERE integration_type = p ->> 'integration_type' AND status = 'active' AND expires_at > clock_timestamp()
             AND conversation_key = CASE WHEN v_config.session_scope = 'thread'
                                         THEN coalesce(p ->> 'shared_key', p ->> 'conversation_key')
                                         ELSE p ->> 'conversation_key' END)) THEN
        RETURN jsonb_build_object('outcome', 'ignored');
    END IF;
    RETURN record_request(p, p_event_id);
END
$$;

ALTER TABLE request_logs
    ADD COLUMN slack_placeholder_ts       text,         -- the sign's message, as Slack calls it
    ADD COLUMN slack_placeholder_channel  text,         -- where it is: for a user's id, their direct message
    ADD COLUMN slack_placeholder_until    timestamptz,  -- it is being posted until then
    ADD COLUMN slack_placeholder_attempts smallint NOT NULL DEFAULT 0;  -- that may have left a message

-- response-dispatch: may the sign be posted? Not when there is one, or the answer is there.
CREATE FUNCTION begin_placeholder(p_request_id text, p_lease interval) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_log request_logs;
BEGIN
    SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id FOR NO KEY UPDATE;
    IF NOT FOUND OR v_log.completed_at IS NOT NULL OR v_log.slack_placeholder_ts IS NOT NULL
       OR v_log.slack_placeholder_until > clock_timestamp() THEN
        RETURN jsonb_build_object('outcome', 'none');
    END IF;
    UPDATE request_logs
    SET slack_placeholder_until = clock_timestamp() + p_lease, slack_placeholder_attempts = slack_placeholder_attempts + 1
    WHERE request_id = p_request_id;
    RETURN jsonb_build_object('outcome', 'post', 'look_first', v_log.slack_placeholder_attempts > 0,
                              'request', v_log.normalized_request);
END
$$;

-- response-dispatch: the sign was posted (p_ts), or was not (p_nothing_there), or nobody knows (neither).
-- 'late': the answer went out without it meanwhile (the post outlived its lease), so it must go.
CREATE FUNCTION finish_placeholder(p_request_id text, p_channel text, p_ts text, p_nothing_there boolean) RETURNS text
LANGUAGE sql AS $$
    UPDATE request_logs
    SET slack_placeholder_until = NULL, slack_placeholder_ts = p_ts, slack_placeholder_channel = p_channel,
        slack_placeholder_attempts = CASE WHEN p_nothing_there THEN 0 ELSE slack_placeholder_attempts END
    WHERE request_id = p_request_id
    RETURNING CASE WHEN delivered_at IS NOT NULL AND delivery_reference <> p_ts THEN 'late' ELSE 'kept' END
$$;

-- response-dispatch: begin_delivery, with the sign that the answer is to replace. While the sign is being posted the answer
-- waits; 'look_first' says that an attempt may have left one that was not written down.
CREATE FUNCTION begin_slack_delivery(p_request_id text, p_lease interval) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_log request_logs;
BEGIN
    SELECT * INTO v_log FROM request_logs WHERE request_id = p_request_id FOR NO KEY UPDATE;
    IF v_log.delivered_at IS NULL AND v_log.slack_placeholder_until > clock_timestamp() THEN
        RETURN jsonb_build_object('outcome', 'busy');
    END IF;
    RETURN begin_delivery(p_request_id, p_lease) || jsonb_build_object(
        'placeholder_ts', v_log.slack_placeholder_ts, 'placeholder_channel', v_log.slack_placeholder_channel,
        'look_first', v_log.slack_placeholder_ts IS NULL AND v_log.slack_placeholder_attempts > 0);
END
$$;

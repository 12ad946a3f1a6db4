-- Every statement that the functions run, by name. The steps of the chain are SQL functions (infra/migrations): each is one
-- round trip and one commit. Parameters are named as in psycopg.

-- session-upsert: find or create the session, log the request once.
-- name: record_request
SELECT record_request(%(request)s::jsonb, %(event_id)s)

-- agent-invoke: take the session's lease for this turn, bring the history.
-- name: claim_turn
SELECT claim_turn(%(request_id)s, %(owner)s, make_interval(secs => %(lease)s), %(history)s)

-- agent-invoke: keep every lease of this process alive. The leases that are still ours come back.
-- name: renew_leases
WITH renewed AS (
    UPDATE request_sessions SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE session_id = ANY(%(sessions)s::uuid[]) AND lease_owner = %(owner)s
    RETURNING session_id)
SELECT coalesce(array_agg(session_id::text), '{}') FROM renewed

-- agent-invoke: commit the answer and give the lease back, if it is still ours.
-- name: finish_turn
SELECT finish_turn(%(request_id)s, %(owner)s, %(fence)s, %(result)s::jsonb)

-- agent-invoke: give the lease back without an answer.
-- name: release_turn
SELECT release_turn(%(request_id)s, %(owner)s, %(fence)s, %(model_calls)s)

-- response-dispatch: what is to be sent where; taken, so that nobody else sends it too.
-- name: begin_delivery
SELECT begin_delivery(%(request_id)s, make_interval(secs => %(lease)s))

-- response-dispatch: it was sent, or why not.
-- name: finish_delivery
SELECT finish_delivery(%(request_id)s, %(reference)s, %(error)s)

-- dead-letter: end a request that cannot be finished.
-- name: fail_request
SELECT fail_request(%(request_id)s, %(request)s::jsonb, %(event_id)s, %(code)s, %(message)s)

-- dead-letter: keep the whole event, once per place that did not take it.
-- name: record_dead_letter
INSERT INTO dead_letters AS d (event_source, event_id, event_type, request_id, destination, error_code, error_data, event, resends)
VALUES (%(source)s, %(event_id)s, %(type)s, %(request_id)s, %(destination)s, %(code)s, %(data)s, %(event)s::jsonb, %(resends)s)
ON CONFLICT (event_source, event_id, destination) DO UPDATE
SET seen = d.seen + 1, resends = greatest(d.resends, excluded.resends), error_code = excluded.error_code,
    error_data = excluded.error_data, updated_at = now()
RETURNING dead_letter_id

-- request-status: one request, as its owner may see it.
-- name: get_request
SELECT jsonb_build_object(
    'request_id', request_id, 'session_id', session_id, 'integration_type', integration_type, 'status', status,
    'agent_id', agent_id, 'created_at', accepted_at, 'completed_at', completed_at, 'processing_time_ms', processing_time_ms,
    'content', response_content, 'metadata', response_metadata, 'error_code', error_code, 'error_message', error_message,
    'user_id', user_id, 'integration_key', integration_key)
FROM request_logs WHERE request_id = %(request_id)s

-- request-status: a session and its newest turns, oldest first.
-- name: get_session
SELECT jsonb_build_object(
    'session_id', s.session_id, 'integration_type', s.integration_type, 'user_id', s.user_id, 'status', s.status,
    'current_agent_id', s.current_agent_id, 'total_requests', s.total_requests, 'created_at', s.created_at,
    'updated_at', s.updated_at, 'expires_at', s.expires_at,
    'turns', coalesce((
        SELECT jsonb_agg(to_jsonb(t) ORDER BY t.accepted_at, t.request_id)
        FROM (SELECT request_id, user_id, integration_key, request_content, response_content, status, agent_id,
                     error_code, error_message, accepted_at, completed_at
              FROM request_logs WHERE session_id = s.session_id
              ORDER BY accepted_at DESC, request_id DESC LIMIT %(limit)s) t), '[]'))
FROM request_sessions s WHERE s.session_id = %(session_id)s::uuid

-- readiness: the database answers, and the newest step exists.
-- name: ready
SELECT to_regprocedure('begin_delivery(text, interval)')::text

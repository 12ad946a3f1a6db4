-- Every statement that the functions run, by name. The steps of the chain are SQL functions (infra/migrations): each is one
-- round trip and one commit. Parameters are named as in psycopg.

-- session-upsert: find or create the session, log the request once. A row that is older than this statement is a duplicate's.
-- name: record_request
SELECT r || jsonb_build_object('duplicate',
    coalesce(r ->> 'recorded_at', r -> 'answer' ->> 'completed_at')::timestamptz < statement_timestamp())
FROM record_request(%(request)s::jsonb, %(event_id)s) AS r

-- session-upsert: the same for a reply in a Slack thread, which may be other people's talk.
-- name: record_thread_reply
SELECT r || jsonb_build_object('duplicate',
    coalesce(r ->> 'recorded_at', r -> 'answer' ->> 'completed_at')::timestamptz < statement_timestamp())
FROM record_thread_reply(%(request)s::jsonb, %(event_id)s) AS r

-- agent-invoke: take the session's lease for this turn, bring the history.
-- name: claim_turn
SELECT claim_turn(%(request_id)s, %(owner)s, make_interval(secs => %(lease)s), %(history)s)

-- agent-invoke: keep every lease of this process alive; how many are still ours.
-- name: renew_leases
WITH renewed AS (
    UPDATE request_sessions SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE session_id = ANY(%(sessions)s::uuid[]) AND lease_owner = ANY(%(owners)s)
    RETURNING session_id)
SELECT count(*) FROM renewed

-- agent-invoke: commit the answer and give the lease back, if it is still ours.
-- name: finish_turn
SELECT finish_turn(%(request_id)s, %(owner)s, %(fence)s, %(result)s::jsonb)

-- agent-invoke: give the lease back without an answer.
-- name: release_turn
SELECT release_turn(%(request_id)s, %(owner)s, %(fence)s, %(model_calls)s)

-- response-dispatch: what is to be sent where; taken, so that nobody else sends it too.
-- name: begin_delivery
SELECT begin_delivery(%(request_id)s, make_interval(secs => %(lease)s))

-- response-dispatch: the same for Slack, with the sign that the answer replaces.
-- name: begin_slack_delivery
SELECT begin_slack_delivery(%(request_id)s, make_interval(secs => %(lease)s))

-- response-dispatch: may the "thinking" sign be posted?
-- name: begin_placeholder
SELECT begin_placeholder(%(request_id)s, make_interval(secs => %(lease)s))

-- response-dispatch: it was posted, or not, or nobody knows.
-- name: finish_placeholder
SELECT finish_placeholder(%(request_id)s, %(channel)s, %(ts)s, %(nothing_there)s)

-- response-dispatch: it was sent, or why not.
-- name: finish_delivery
SELECT finish_delivery(%(request_id)s, %(reference)s, %(error)s)

-- response-dispatch: it was not sent after all; as if it had not begun.
-- name: release_delivery
SELECT release_delivery(%(request_id)s)

-- response-dispatch: the place will never take it.
-- name: refuse_delivery
SELECT refuse_delivery(%(request_id)s, %(error)s)

-- response-dispatch: a webhook said that it is gone. True for the one who switched it off.
-- name: disable_webhook
SELECT disable_webhook(%(type)s, %(key)s, %(url)s, %(reason)s)

-- dead-letter: the broker gave a delivery up.
-- name: give_up_delivery
SELECT give_up_delivery(%(request_id)s, %(error)s)

-- dead-letter: end a request that cannot be finished.
-- name: fail_request
SELECT fail_request(%(request_id)s, %(request)s::jsonb, %(event_id)s, %(code)s, %(message)s)

-- dead-letter: keep the whole event, once per place that did not take it.
-- name: record_dead_letter
INSERT INTO dead_letters AS d (event_source, event_id, event_type, request_id, destination, error_code, error_data, event, resends,
                               given_up_at)
VALUES (%(source)s, %(event_id)s, %(type)s, %(request_id)s, %(destination)s, %(code)s, %(data)s, %(event)s::jsonb, %(resends)s,
        CASE WHEN %(given_up)s THEN now() END)
ON CONFLICT (event_source, event_id, destination) DO UPDATE
SET seen = d.seen + 1, resends = greatest(d.resends, excluded.resends), error_code = excluded.error_code,
    error_data = excluded.error_data, given_up_at = excluded.given_up_at, updated_at = now()
RETURNING dead_letter_id

-- session-sweep: one batch of active sessions to look at.
-- name: sweep_active
SELECT sweep_active(%(limit)s, make_interval(days => %(retention)s))

-- session-sweep: one batch of past sessions with requests past retention.
-- name: sweep_past
SELECT sweep_past(%(limit)s, make_interval(days => %(retention)s))

-- session-sweep: one batch of refused requests past retention.
-- name: sweep_sessionless
SELECT sweep_sessionless(%(limit)s, make_interval(days => %(retention)s))

-- session-sweep: one batch of dead letters past retention.
-- name: sweep_dead_letters
SELECT sweep_dead_letters(%(limit)s, make_interval(days => %(retention)s))

-- session-sweep: pieces of answers, kept for longer than any turn and any reader's stream lasts.
-- name: sweep_chunks
SELECT drop_chunks(interval '15 minutes')

-- session-sweep: requests that stopped moving.
-- name: stalled_requests
SELECT stalled_requests(make_interval(secs => %(stalled)s), %(max)s, %(limit)s)

-- session-sweep: their session events were sent again.
-- name: note_resumed
SELECT note_resumed(%(request_ids)s, make_interval(secs => %(stalled)s))

-- session-sweep, for its metrics: what waits.
-- name: waiting_state
SELECT waiting_state(%(limit)s)

-- session-sweep: answers that did not arrive.
-- name: undelivered_answers
SELECT undelivered_answers(make_interval(secs => %(stalled)s), %(max)s, %(limit)s)

-- session-sweep: their events were sent again.
-- name: note_redelivered
SELECT note_redelivered(%(request_ids)s, make_interval(secs => %(stalled)s))

-- session-sweep: they are given up.
-- name: note_undeliverable
SELECT note_undeliverable(%(request_ids)s, %(error)s)

-- request-status: one request, as its owner may see it.
-- name: get_request
SELECT request_row(r) FROM request_logs r WHERE request_id = %(request_id)s

-- request-status: a request's times, and what became of its events.
-- name: get_trace
SELECT jsonb_build_object(
    'request_id', r.request_id, 'session_id', r.session_id, 'integration_type', r.integration_type, 'status', r.status,
    'user_id', r.user_id, 'integration_key', r.integration_key, 'traceparent', r.normalized_request -> 'traceparent',
    'accepted_at', (r.normalized_request ->> 'accepted_at')::timestamptz, 'recorded_at', r.recorded_at,
    'opened_session', r.opened_session, 'started_at', r.started_at, 'attempts', r.attempts, 'model_calls', r.model_calls,
    'completed_at', r.completed_at, 'agent_id', r.agent_id, 'usage', r.response_metadata -> 'usage',
    'error_code', r.error_code, 'delivery_attempts', r.delivery_attempts, 'delivered_at', r.delivered_at,
    'delivery_error', r.delivery_error, 'undeliverable_at', r.undeliverable_at, 'resumes', r.resumes,
    'resumed_at', r.resumed_at, 'redeliveries', r.redeliveries, 'redelivered_at', r.redelivered_at,
    'turn_before', (
        SELECT jsonb_build_object('completed_at', b.completed_at) FROM request_logs b
        WHERE b.session_id = r.session_id AND (b.accepted_at, b.request_id) < (r.accepted_at, r.request_id)
        ORDER BY b.accepted_at DESC, b.request_id DESC LIMIT 1),
    'first_words_at', (
        SELECT min(c.created_at) FROM response_chunks c
        WHERE c.request_id = r.request_id AND c.attempt = r.attempts AND c.content IS NOT NULL),
    'dead_letters', coalesce((
        SELECT jsonb_agg(jsonb_build_object('type', d.event_type, 'code', d.error_code, 'seen', d.seen,
                                            'resends', d.resends, 'at', d.updated_at) ORDER BY d.dead_letter_id)
        FROM dead_letters d WHERE d.request_id = r.request_id), '[]'))
FROM request_logs r WHERE r.request_id = %(request_id)s

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

-- agent-invoke: pieces of answers that are being written.
-- name: append_chunks
SELECT append_chunks(%(chunks)s::jsonb)

-- request-status: have this request's readers woken at every piece.
-- name: follow_request
SELECT follow_request(%(request_id)s)

-- request-status: the request's state, and the pieces of its newest attempt that come after the reader's last one.
-- name: get_chunks
SELECT jsonb_build_object('status', r.status, 'chunks', CASE WHEN r.completed_at IS NULL THEN coalesce((
    SELECT jsonb_agg(jsonb_build_array(c.attempt, c.seq, c.content) ORDER BY c.seq)
    FROM response_chunks c
    WHERE c.request_id = r.request_id AND (c.attempt, c.seq) > (%(attempt)s, %(seq)s)
      AND c.attempt = (SELECT max(n.attempt) FROM response_chunks n WHERE n.request_id = r.request_id)), '[]')
    ELSE '[]' END)
FROM request_logs r WHERE r.request_id = %(request_id)s

-- readiness: the database answers, and the newest step exists.
-- name: ready
SELECT to_regprocedure('request_row(request_logs)')::text

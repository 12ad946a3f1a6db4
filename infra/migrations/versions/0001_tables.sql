-- The tables of the request layer. A database that already holds tables of these names from the system this one
-- replaces keeps them, renamed, so that nothing of theirs is read or lost.
DO $$
DECLARE
    legacy text;
BEGIN
    FOREACH legacy IN ARRAY ARRAY['request_logs', 'request_sessions', 'integration_configs', 'dead_letters'] LOOP
        IF to_regclass(legacy) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I RENAME TO %I', legacy, 'legacy_' || legacy);
        END IF;
    END LOOP;
END
$$;

CREATE TABLE integration_configs (
    integration_type text NOT NULL,
    integration_key  text NOT NULL DEFAULT '',      -- a tool_id, or '' for the whole integration
    enabled          boolean NOT NULL DEFAULT true,
    default_agent_id text,                          -- null: DEFAULT_AGENT_ID of agent-invoke
    session_scope    text CHECK (session_scope IN ('user', 'thread')),
    idle_timeout     interval CHECK (idle_timeout > interval '0'),
    queue_limit      integer CHECK (queue_limit > 0),
    delivery         jsonb NOT NULL DEFAULT '{}',   -- webhook_url, secret_ref: never a secret itself
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT integration_configs_key PRIMARY KEY (integration_type, integration_key)
);

INSERT INTO integration_configs (integration_type, session_scope, idle_timeout, queue_limit) VALUES
    ('slack', 'user', interval '24 hours', 50),
    ('web',   'user', interval '12 hours', 50),
    ('cli',   'user', interval '12 hours', 50),
    ('tool',  'user', interval '24 hours', 50);

CREATE TABLE request_sessions (
    session_id           uuid NOT NULL DEFAULT gen_random_uuid(),
    integration_type     text NOT NULL,
    user_id              text NOT NULL,
    conversation_key     text NOT NULL,
    status               text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'expired', 'archived')),
    channel_id           text,
    thread_id            text,
    external_session_id  text,
    current_agent_id     text,
    conversation_context jsonb NOT NULL DEFAULT '{}',
    integration_metadata jsonb NOT NULL DEFAULT '{}',
    user_context         jsonb NOT NULL DEFAULT '{}',
    total_requests       integer NOT NULL DEFAULT 0,
    input_tokens         bigint NOT NULL DEFAULT 0,
    output_tokens        bigint NOT NULL DEFAULT 0,
    lease_owner          text,
    lease_until          timestamptz,
    lease_fence          bigint NOT NULL DEFAULT 0,
    last_turn_at         timestamptz,               -- accepted_at of the newest turn that was ever claimed
    turn_claimed_at      timestamptz,               -- the newest attempt at a turn of this session
    last_request_id      text,
    last_request_at      timestamptz,
    expires_at           timestamptz NOT NULL,
    -- When session-sweep looks at this session next, not when it ends: a request moves expires_at and leaves this alone, and
    -- the sweep moves it on. While active: not later than expires_at. Afterwards: not later than its oldest request.
    check_at             timestamptz NOT NULL DEFAULT now(),
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT request_sessions_id PRIMARY KEY (session_id)
) WITH (fillfactor = 70);                           -- room for HOT updates: every request updates its session

-- One active session per conversation.
CREATE UNIQUE INDEX request_sessions_conversation
    ON request_sessions (integration_type, conversation_key) WHERE status = 'active';

CREATE TABLE request_logs (
    request_id         text NOT NULL,
    session_id         uuid CONSTRAINT request_logs_session REFERENCES request_sessions (session_id),
    integration_type   text NOT NULL,
    integration_key    text NOT NULL DEFAULT '',
    user_id            text NOT NULL,
    request_type       text NOT NULL DEFAULT 'message',
    request_content    text NOT NULL,
    normalized_request jsonb NOT NULL,
    opened_session     boolean NOT NULL DEFAULT false,
    status             text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'completed', 'failed')),
    agent_id           text,
    response_content   text,
    response_metadata  jsonb NOT NULL DEFAULT '{}',
    error_code         text,
    error_message      text,
    attempts           integer NOT NULL DEFAULT 0,
    model_calls        integer NOT NULL DEFAULT 0,
    processing_time_ms bigint,
    cloudevent_id      text NOT NULL,
    delivery_attempts  integer NOT NULL DEFAULT 0,
    delivery_until     timestamptz,                 -- a delivery is under way until then
    delivered_at       timestamptz,
    delivery_reference text,                        -- what the channel calls our message
    delivery_error     text,
    undeliverable_at   timestamptz,                 -- its delivery was given up; delivery_error says why
    resumes            integer NOT NULL DEFAULT 0,  -- how often session-sweep sent its session event again
    resumed_at         timestamptz,
    redeliveries       integer NOT NULL DEFAULT 0,  -- how often session-sweep sent its answer's event again
    redelivered_at     timestamptz,
    accepted_at        timestamptz NOT NULL,        -- the turn's place in its session
    recorded_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at         timestamptz,
    completed_at       timestamptz,
    CONSTRAINT request_logs_id PRIMARY KEY (request_id),
    CONSTRAINT request_logs_finished CHECK ((status IN ('completed', 'failed')) = (completed_at IS NOT NULL))
) WITH (fillfactor = 70);

-- A session's history, newest first or oldest first.
CREATE INDEX request_logs_history ON request_logs (session_id, accepted_at, request_id);
-- A session's turns that are still to be done: small, whatever the table's size.
CREATE INDEX request_logs_unfinished
    ON request_logs (session_id, accepted_at, request_id) WHERE status IN ('queued', 'processing');

CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY,
    event_source   text NOT NULL,
    event_id       text NOT NULL,
    event_type     text NOT NULL,
    request_id     text,
    destination    text NOT NULL,                   -- the subscriber that did not take it
    error_code     text,
    error_data     text,
    event          jsonb NOT NULL,                  -- {"attributes": {…}, "data": …} or "data_base64"
    seen           integer NOT NULL DEFAULT 1,
    resends        integer NOT NULL DEFAULT 0,
    replayed_at    timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letters_id PRIMARY KEY (dead_letter_id),
    CONSTRAINT dead_letters_event UNIQUE (event_source, event_id, destination)
);
CREATE INDEX dead_letters_request ON dead_letters (request_id);

-- What session-sweep looks for. No column that every request updates is indexed: a session's row keeps its HOT updates.
CREATE INDEX request_sessions_check ON request_sessions (check_at) WHERE status = 'active';
CREATE INDEX request_sessions_past ON request_sessions (check_at) WHERE status <> 'active';
-- Requests that were refused before they had a session; the others are found by their session.
CREATE INDEX request_logs_sessionless ON request_logs (recorded_at) WHERE session_id IS NULL;
-- Answers on their way, of integrations whose answers are sent: small, whatever the table's size.
CREATE INDEX request_logs_undelivered ON request_logs (completed_at)
    WHERE completed_at IS NOT NULL AND delivered_at IS NULL AND undeliverable_at IS NULL
      AND integration_type NOT IN ('web', 'cli');
CREATE INDEX dead_letters_age ON dead_letters (updated_at);

-- Dead letters: a catalogue of what lies in the queues `*.dead`, and what operators did with it.

CREATE TYPE dead_letter_state AS ENUM (
    -- Lies in its queue, and nobody has decided anything.
    'parked',
    -- Published to its work queue again.
    'replayed',
    'discarded',
    -- Somebody took it out of its queue by other means.
    'gone');

CREATE TABLE dead_letters (
    -- Digest of queue, headers and body without the broker's own counters: whoever reads the letter gives it the
    -- same name, and the broker's copies of one publish are one letter.
    letter_id       text              NOT NULL,
    -- `prepay.dead`, …
    queue           text              NOT NULL,
    -- The work queue it goes back to; null when nobody can tell.
    work_queue      text,
    state           dead_letter_state NOT NULL DEFAULT 'parked',
    kind            text              NOT NULL,
    message_id      text,
    -- No foreign key: it may name an order that is not ours, or not yet.
    order_id        text,
    error_class     text              NOT NULL,
    error           text              NOT NULL,
    -- Digest of queue, kind, class and the error without its numbers: letters with one cause share it.
    cause           text              NOT NULL,
    worker          text,
    attempt         integer           NOT NULL,
    -- The replay that brought it here once more, and the letter that was replayed.
    replay_id       uuid,
    replay_of       text,
    -- The first failure by the message's own word, else when it was seen first.
    failed_at       timestamptz       NOT NULL,
    headers         jsonb             NOT NULL,
    -- As people may see it: openids masked.
    shown           text              NOT NULL,
    -- Everything that is needed to publish it once more, sealed, since it may hold an openid.
    sealed          bytea             NOT NULL,
    seen_at         timestamptz       NOT NULL DEFAULT now(),
    -- The last reading did not see it. Two in a row mean that it is not there: a reader that died a moment ago may
    -- have had it in hand.
    missed          boolean           NOT NULL DEFAULT false,
    -- Since when it is not in its queue any more. Set before the broker is told, so that a copy that appears
    -- afterwards is a new letter with the same words, and parked again.
    removed_at      timestamptz,
    CONSTRAINT dead_letters_pk PRIMARY KEY (letter_id)
);
-- The list, newest first, and its pages.
CREATE INDEX dead_letters_by_time ON dead_letters (state, failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_order ON dead_letters (order_id);
-- The sweep leaves out what is parked; a replayed message that comes back is found by its key.
CREATE INDEX dead_letters_by_message ON dead_letters (message_id);
CREATE INDEX dead_letters_missed ON dead_letters (queue) WHERE missed AND removed_at IS NULL;

-- When each queue was read last, and how many letters were left in it: another depth tells that there is news. -1 while
-- it is read, or when whoever read it died.
CREATE TABLE dead_letter_readings (
    queue   text        NOT NULL,
    read_at timestamptz NOT NULL,
    depth   integer     NOT NULL,
    CONSTRAINT dead_letter_readings_pk PRIMARY KEY (queue)
);

CREATE TYPE dead_letter_replay_state AS ENUM ('planned', 'running', 'paused', 'cancelled', 'finished');

-- A replay: a set of letters, frozen when it was asked for.
CREATE TABLE dead_letter_replays (
    replay_id   uuid                     NOT NULL,
    -- SHA-256 over the patch and the letters' names in their order.
    hash        text                     NOT NULL,
    state       dead_letter_replay_state NOT NULL,
    -- Why it paused by itself.
    paused_why  text,
    -- How the set was asked for.
    asked       jsonb                    NOT NULL,
    -- A JSON merge patch for every body.
    patch       jsonb,
    -- What would have happened when the set was frozen: letters, orders and money by effect.
    effects     jsonb                    NOT NULL,
    reason      text                     NOT NULL,
    created_by  text                     NOT NULL,
    -- Letters published first, alone; the rest follows when the books show that they got through.
    canary      integer                  NOT NULL,
    per_second  integer                  NOT NULL,
    -- Pauses when more than this share of what was published was parked again.
    stop_percent integer                 NOT NULL,
    -- Letters that were parked again before somebody looked and had it go on: they count for the share no more.
    excused     bigint                   NOT NULL DEFAULT 0,
    created_at  timestamptz              NOT NULL DEFAULT now(),
    started_at  timestamptz,
    finished_at timestamptz,
    CONSTRAINT dead_letter_replays_pk PRIMARY KEY (replay_id),
    CONSTRAINT dead_letter_replays_pace CHECK (per_second BETWEEN 1 AND 10000),
    CONSTRAINT dead_letter_replays_share CHECK (stop_percent BETWEEN 0 AND 100)
);
CREATE INDEX dead_letter_replays_running ON dead_letter_replays (created_at) WHERE state = 'running';
CREATE INDEX dead_letter_replays_by_time ON dead_letter_replays (created_at DESC, replay_id DESC);

CREATE TYPE dead_letter_result AS ENUM (
    'pending',
    -- With the broker; what came of it is not known yet.
    'published',
    -- The books say that nothing of it is left to be done.
    'done',
    'parked_again',
    -- Not published; the detail says why.
    'skipped');

CREATE TABLE dead_letter_replay_items (
    replay_id    uuid               NOT NULL CONSTRAINT dead_letter_replay_items_replay_fk REFERENCES dead_letter_replays,
    place        integer            NOT NULL,
    letter_id    text               NOT NULL CONSTRAINT dead_letter_replay_items_letter_fk REFERENCES dead_letters,
    -- What would have happened when the set was frozen.
    effect       text               NOT NULL,
    result       dead_letter_result NOT NULL DEFAULT 'pending',
    detail       text,
    published_at timestamptz,
    CONSTRAINT dead_letter_replay_items_pk PRIMARY KEY (replay_id, place),
    CONSTRAINT dead_letter_replay_items_once UNIQUE (replay_id, letter_id)
);
CREATE INDEX dead_letter_replay_items_open ON dead_letter_replay_items (replay_id, place) WHERE result IN ('pending', 'published');
-- A letter's history.
CREATE INDEX dead_letter_replay_items_by_letter ON dead_letter_replay_items (letter_id);

-- What people know about a cause.
CREATE TABLE dead_letter_notes (
    note_id    bigint      GENERATED ALWAYS AS IDENTITY,
    cause      text        NOT NULL,
    author     text        NOT NULL,
    note       text        NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letter_notes_pk PRIMARY KEY (note_id),
    CONSTRAINT dead_letter_notes_length CHECK (length(note) BETWEEN 1 AND 2000)
);
CREATE INDEX dead_letter_notes_by_cause ON dead_letter_notes (cause, note_id);

-- Who did what, when, why, and to which letters. Append-only, like the orders' log.
CREATE TABLE dead_letter_acts (
    act_id    bigint      GENERATED ALWAYS AS IDENTITY,
    at        timestamptz NOT NULL DEFAULT now(),
    -- `operator:…`
    actor     text        NOT NULL,
    act       text        NOT NULL,
    reason    text        NOT NULL,
    replay_id uuid,
    -- Of a replay the letters are its items.
    letters   text[]      NOT NULL DEFAULT '{}',
    details   jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT dead_letter_acts_pk PRIMARY KEY (act_id)
);
CREATE INDEX dead_letter_acts_by_letter ON dead_letter_acts USING gin (letters);
CREATE INDEX dead_letter_acts_by_replay ON dead_letter_acts (replay_id);

CREATE FUNCTION dead_letter_acts_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'dead_letter_acts is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER dead_letter_acts_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_acts
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letter_acts_are_append_only();

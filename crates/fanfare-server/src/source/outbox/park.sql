CREATE TABLE IF NOT EXISTS fanfare_outbox_table (
    id bigint,
    topic text,
    event text,
    payload json,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now()
);

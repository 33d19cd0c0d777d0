-- Which key sealed a value (src/store/sealed.rs): its name, empty for the one without. So it can be told what still needs
-- a key that is to go.
CREATE FUNCTION sealed_by(sealed bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE substr(sealed, 1, 1)
        WHEN '\x01' THEN ''
        WHEN '\x02' THEN encode(substr(sealed, 3, get_byte(sealed, 1)), 'escape')
        ELSE '?' END;

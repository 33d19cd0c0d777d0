-- Which key sealed a value (src/store/sealed.rs): its name, empty for the one without.
CREATE FUNCTION sealed_by(sealed bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE substr(sealed, 1, 1)
        WHEN '\x01' THEN ''
        WHEN '\x02' THEN encode(substr(sealed, 3, get_byte(sealed, 1)), 'escape')
        ELSE '?' END;

-- How many values each key has sealed: so a key that is to go is known to be needed or not. Counts alone, for whoever
-- holds keys, also where they may not read these tables.
CREATE FUNCTION sealed_census() RETURNS TABLE (name text, openids bigint, dead_letters bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
BEGIN ATOMIC
    SELECT key, sum(of_users)::bigint, sum(of_letters)::bigint FROM (
        SELECT sealed_by(openid) AS key, count(*) AS of_users, 0 AS of_letters
          FROM users WHERE openid IS NOT NULL GROUP BY 1
         UNION ALL
        SELECT sealed_by(sealed), 0, count(*) FROM dead_letters GROUP BY 1) by_place
     GROUP BY key ORDER BY key;
END;

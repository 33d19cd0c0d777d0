-- One role of PostgreSQL per kind of process. Once per server, by an administrator, and again after an upgrade that
-- brings another role; whoever is there already is left as they are:
--
--   psql -d postgres -f deploy/postgresql/roles.sql
--
-- They may do nothing yet. What each may do in a database is given by that database's owner: `holdfast migrate`, each
-- time. Nobody can log in before they have a password: \password holdfast_seats, … For a stack where all share one,
-- the variable HOLDFAST_ROLES_PASSWORD sets it.

SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY[
       -- `holdfast api`: what customers and WeChat reach, which only reads …
       'holdfast_ingress',
       -- … and what operators decide in the console or by command (`database.operators_url`).
       'holdfast_desk',
       -- One per worker.
       'holdfast_seats', 'holdfast_prepay', 'holdfast_payments', 'holdfast_expiry', 'holdfast_refunds',
       'holdfast_notifications', 'holdfast_reconcile']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

\getenv password HOLDFAST_ROLES_PASSWORD
\if :{?password}
SELECT format('ALTER ROLE %I PASSWORD %L', rolname, :'password')
  FROM pg_roles
 WHERE rolname IN ('holdfast_ingress', 'holdfast_desk', 'holdfast_seats', 'holdfast_prepay', 'holdfast_payments',
                   'holdfast_expiry', 'holdfast_refunds', 'holdfast_notifications', 'holdfast_reconcile')
\gexec
\endif

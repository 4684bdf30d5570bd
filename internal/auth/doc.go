// Package auth says who is asking and what they may: users and their roles,
// passwords, tokens, sessions, and the checks in front of every request.
//
// Roles are Airflow's (those of its FAB auth manager): Viewer reads DAGs and what
// belongs to them; User also changes, triggers and clears them; Op also manages
// connections, variables, pools, backfills and sees the configuration; Admin also
// users and the audit log. DagScopes narrow or widen a role per DAG, by id or tag.
//
// Three kinds of credentials are taken: a JSON Web Token (POST /auth/token), an API
// token (gust_…, revocable, shown once) and the session cookie that the login page
// sets. Whatever the credential, the user's record is read with every request, so
// that a revocation, a disabled user or another role counts at once, in every
// process: nothing about identity is cached but the keys.
//
// All state is in the store. The package knows no cloud and no HTTP framework; a
// Service may be used concurrently.
package auth

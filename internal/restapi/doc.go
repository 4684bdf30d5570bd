// Package restapi serves Airflow's REST API v2, and whatever else is registered
// with it (the UI's own endpoints), from one store and one engine. The same
// handler runs in the local server, in the API function and in tests.
//
// # Operations
//
// An operation is registered with Handle: a method and path, the permission it
// needs, an input type and an output type. The input's fields say by tags where
// they come from and what they accept; the framework binds and checks them and
// answers a wrong request as Airflow's framework does (422 with a list of loc,
// msg, type). The output's type is the answer's JSON. The OpenAPI description at
// /openapi.json is made from the same types, so that it cannot say anything else.
//
//	type getDag struct {
//		DagID string `path:"dag_id"`
//	}
//
//	Handle(a, Op{Method: "GET", Path: "/api/v2/dags/{dag_id}", ID: "get_dag", ...},
//		func(r *Request, in *getDag) (DAGResponse, error) { ... })
//
// # Order of checks
//
// An unknown route is 404 ({"error": …}) and a wrong method 405 without asking
// who calls; then authentication (401, 403), permission (403), the audit entry of
// a change (refused changes leave one too, as in Airflow), the request's form
// (422), and the handler (400, 404, 409).
//
// # Lists
//
// A list reads through an access path of the store. What the path does not
// answer is filtered and ordered here, over at most Options.ReadLimit items;
// beyond that the answer has a cursor and total_entries_limit. No filter and no
// order is ignored.
package restapi

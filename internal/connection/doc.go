// Package connection reads and writes Airflow connections: URIs, JSON, the
// files of `connections import` and `export`, and environment variables.
//
//	URI ⇄ airflow.Connection ⇄ JSON
//
// The rules are Airflow's (docs/compatibility.md lists where Gust is stricter):
//
//	type://login:password@host:port/schema?key=value
//
// All parts are percent-encoded. In the type "-" becomes "_" and "postgresql"
// becomes "postgres". The query becomes the extra, whose values are then texts;
// "__extra__=<JSON>" carries any other extra. A second scheme belongs to the
// host: http://https://example.com has the host https://example.com.
//
// No error of this package quotes a value of the connection: it could be secret.
package connection

// Package remote lets workers on other machines run the tasks of a server, over
// HTTP and without any other service: the server keeps the queues (Executor), many
// workers pull from them (Client.Serve) and reach the control plane through the
// same connection (Client is their worker.Backend). It is what EdgeExecutor is in
// Airflow, and plays Celery's role too.
//
// Every request carries a token; who has it can do what a worker can: read every
// variable and connection. Put TLS in front of the server where the network is not
// yours (a reverse proxy), and give workers an https URL.
//
//	POST <prefix>/pull                  dispatches, after waiting for some
//	POST <prefix>/call/<method>         one method of worker.Backend
//	POST <prefix>/logs                  lines of a try's log
//	GET  <prefix>/documents/<hash>      a DAG version
//	GET  <prefix>/blobs/<hash>          a file of a bundle, or its manifest
package remote

// Prefix is below which a server serves workers.
const Prefix = "/gust/v1/worker"

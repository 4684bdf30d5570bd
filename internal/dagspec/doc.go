// Package dagspec turns DAG files written in YAML (the schema of dag-factory
// 1.x, which Amazon MWAA Serverless also uses) into Airflow's serialized DAG
// documents, version 3, with Gust's extension beside them.
//
// Load is a function of the file, of what its Source gives it (other files,
// environment variables, Airflow Variables) and of Options.Now. It reports
// every problem of a file at once, each with file, line, column and field
// path; a bad DAG never hurts another one of the same or of another file.
//
// The stages, each in its own file:
//
//	expand.go    environment variables over the raw text
//	yaml.go      YAML 1.1 as PyYAML's FullLoader reads it → values with positions
//	objects.go   __type__ objects; fold.go: __and__, __or__, __join__
//	defaults.go  defaults.yml chain, the default block, merges
//	dag.go …     DAG arguments, schedule, params, callbacks
//	tasks.go …   operators, decorators, mapping; groups.go: groups and edges
//	document.go  the serialized form
//
// Values mirror Python's: a Python programmer's expectations of a YAML file
// (identity of anchors, order of keys, 1 == True as a key) hold, because the
// text appended to doc_md and error messages depend on them.
//
// With Options.Strict the loader accepts exactly what dag-factory 1.1 on
// Airflow 3.3.2 accepts. Without it, Gust also honours what dag-factory drops
// without a message (fail_fast, owner_links, …) and a few more spellings; each
// such use is a warning.
package dagspec

// Package dagparser loads DAG files on another machine than the one that registers
// them: the parser reads the bucket of DAG files and nothing else, so that whatever
// a DAG file makes it do gains no right of the control plane.
//
//	Client   in the DAG processor: a dagprocessor.BatchLoader that asks the parser,
//	         and believes nothing of the answer that it can check
//	Parser   in the parser's function: reads the files at exactly the versions that
//	         the request lists, loads them as `gust dags validate` would
//
// # Protocol
//
// A Request names the files to parse and a manifest: every file that is no DAG file,
// with its version. The answer holds a Result per file, in order; fewer than asked
// when the answer would become too big or time runs out: the rest is asked for
// again. What the parser could not know shows in the result, and leads to another
// request: a file it looked for that exists but was not in the manifest, and an
// Airflow variable that exists but was not among the request's. Messages above 64 KB
// travel compressed.
//
// A parser that dies (memory, time) with several files is asked for each half, until
// the one file that kills it is known: its import error says so, the others load.
package dagparser

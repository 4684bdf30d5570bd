// Package operatorspec knows the operators, sensors and decorators a DAG file
// can name: their class paths (Airflow 3, Airflow 2 and short spellings), the
// arguments of their constructors, template fields, defaults and flags. It is
// the metadata an authoring front end needs to check and serialize a task
// without importing Python.
//
// The facts sit in operators.jsonl, one class a line, written by
// gen/operators.py from the public interface of Airflow 3.3.2 and its
// providers. Lines are decoded on first use: looking up one operator costs
// microseconds and the rest of the table is never parsed.
//
// All exported functions are safe for concurrent use; what they return is
// shared and must not be changed.
package operatorspec

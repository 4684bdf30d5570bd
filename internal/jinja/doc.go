// Package jinja is a Jinja2 3.1 template engine with Python's value semantics.
//
// Airflow's templated fields are Jinja templates whose results are, to the
// letter, what CPython prints. This package renders them without a Python
// process: a lexer, parser and tree evaluator for the whole template language
// (all built-in statements, filters, tests and globals, the sandbox and the
// native environment), over a model of Python's values (integers without size
// limit, floats with Python's repr, str/bytes/list/tuple/dict/set with their
// methods, %-formatting and str.format, datetime, and the pendulum objects
// that Airflow puts in a template's context).
//
// # Values
//
// A Value is one of: nil (None), bool, int64 or *big.Int (int), float64,
// string (str), Markup, Bytes, *List, *Tuple, *Dict, *Set, *Range, *DateTime,
// *Date, *Time, *TimeDelta, *Interval, *Undefined, *Func, *Type, or anything
// that implements Object. FromGo and ToGo convert plain Go data.
//
// # Errors
//
// Every failure of a template is an *Error that carries the Python exception
// class ("UndefinedError", "ZeroDivisionError", ...), its message and the line
// of the template. Inside the package exceptions travel as panics of *Error,
// as text/template does; no panic crosses the exported API.
//
// # Limits
//
// A template is input from outside. Limits bounds the steps, the output and
// the size of single values, so that a hostile template cannot hang or exhaust
// a worker; exceeding one is an *Error of class ClassLimit.
//
// # Concurrency
//
// An Environment and its parsed templates may be used by many goroutines at a
// time once configured. Values (lists, dicts, ...) are mutable as in Python and
// must not be shared between renders that run at the same time.
package jinja

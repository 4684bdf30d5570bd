package dagspec

import (
	"errors"
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
)

// hintMark separates Airflow's own text of an error from Gust's advice in
// Problem.Message.
const hintMark = " — "

// pyError is an exception that Airflow or dag-factory would raise here.
type pyError struct {
	class, msg string
	advice     string
	at         pos    // where, if narrower than the caller knows
	field      string // field path below the caller's
}

func pyErr(class, format string, args ...any) *pyError {
	return &pyError{class: class, msg: fmt.Sprintf(format, args...)}
}

func (e *pyError) hint(format string, args ...any) *pyError {
	e.advice = fmt.Sprintf(format, args...)
	return e
}

func (e *pyError) in(field string, at pos) *pyError {
	if e.field == "" {
		e.field = field
	}
	if !e.at.known() {
		e.at = at
	}
	return e
}

func (e *pyError) Error() string { return e.class + ": " + e.msg }

// report adds err as a problem of field at p.
func (l *loader) report(err error, field string, p pos) {
	var e *pyError
	if !errors.As(err, &e) {
		e = pyErr("", "%s", err.Error())
	}
	if e.at.known() {
		p = e.at
	}
	if e.field != "" {
		field = e.field
	}
	msg := e.msg
	if e.advice != "" {
		msg += hintMark + e.advice
	}
	l.problems = append(l.problems, l.locate(airflow.Problem{Class: e.class, Message: msg, Field: field, Severity: "error"}, p))
}

// warn adds a warning of field at p.
func (l *loader) warn(class, field string, p pos, format string, args ...any) {
	l.warnings = append(l.warnings, l.locate(airflow.Problem{Class: class, Message: fmt.Sprintf(format, args...), Field: field, Severity: "warning"}, p))
}

func (l *loader) locate(pr airflow.Problem, p pos) airflow.Problem {
	if p.file > 0 {
		f := l.files[p.file-1]
		pr.File = f.name
		pr.Line, pr.Column = f.original(int(p.line), int(p.col))
	} else if len(l.files) > 0 {
		pr.File, pr.Line, pr.Column = l.files[0].name, 1, 1
	}
	return pr
}

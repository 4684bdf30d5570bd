package jinja

import (
	"errors"
	"fmt"
)

// ClassLimit is the class of the error raised when a template exceeds one of
// the environment's Limits. Python has no counterpart.
const ClassLimit = "TemplateLimitError"

// Error is a Python exception raised by a template or by its compilation.
type Error struct {
	// Class is the exception's class name without module.
	Class string
	// Message is the exception's text.
	Message string
	// Line is the 1-based template line, 0 when unknown.
	Line int
	// Template names the template, "" for one made from text.
	Template string
	// Cause is the Go error of a caller-supplied function, if any.
	Cause error
}

// Error gives class, message and place.
func (e *Error) Error() string {
	s := e.Class
	if e.Message != "" {
		s += ": " + e.Message
	}
	switch {
	case e.Template != "" && e.Line > 0:
		s += fmt.Sprintf(" (%s, line %d)", e.Template, e.Line)
	case e.Line > 0:
		s += fmt.Sprintf(" (line %d)", e.Line)
	}
	return s
}

// Unwrap returns the Go error of a caller-supplied function, if any.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error of the given class.
func Errorf(class, format string, args ...any) *Error {
	return &Error{Class: class, Message: fmt.Sprintf(format, args...)}
}

// baseClasses gives the base class of each exception, as far as code here
// catches by base class.
var baseClasses = map[string]string{
	"KeyError":               "LookupError",
	"IndexError":             "LookupError",
	"ZeroDivisionError":      "ArithmeticError",
	"OverflowError":          "ArithmeticError",
	"UnicodeError":           "ValueError",
	"UnicodeDecodeError":     "UnicodeError",
	"UnicodeEncodeError":     "UnicodeError",
	"JSONDecodeError":        "ValueError",
	"InvalidTimezone":        "ValueError",
	"ParserError":            "ValueError",
	"RecursionError":         "RuntimeError",
	"NotImplementedError":    "RuntimeError",
	"UndefinedError":         "TemplateRuntimeError",
	"SecurityError":          "TemplateRuntimeError",
	"FilterArgumentError":    "TemplateRuntimeError",
	"TemplateRuntimeError":   "TemplateError",
	"TemplateSyntaxError":    "TemplateError",
	"TemplateAssertionError": "TemplateSyntaxError",
	"TemplateNotFound":       "LookupError",
	"TemplatesNotFound":      "TemplateNotFound",
}

// IsClass reports whether e's class is class or derives from it.
func (e *Error) IsClass(class string) bool {
	for c := e.Class; c != ""; c = baseClasses[c] {
		if c == class {
			return true
		}
	}
	return class == "Exception" && e.Class != ClassLimit
}

// raise panics with an Error; the evaluator's boundary recovers it.
func raise(class, format string, args ...any) {
	panic(&Error{Class: class, Message: fmt.Sprintf(format, args...)})
}

func typeError(format string, args ...any)  { raise("TypeError", format, args...) }
func valueError(format string, args ...any) { raise("ValueError", format, args...) }

// raiseErr raises the Go error of a caller-supplied function.
func raiseErr(err error) {
	var e *Error
	if errors.As(err, &e) {
		panic(e)
	}
	panic(&Error{Class: "RuntimeError", Message: err.Error(), Cause: err})
}

// catch runs f and returns the Python exception it raised, if that is of one
// of the classes; other exceptions pass.
func catch(f func(), classes ...string) (caught *Error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			for _, c := range classes {
				if e.IsClass(c) {
					caught = e
					return
				}
			}
			panic(r)
		}
	}()
	f()
	return nil
}

// guard turns a raised exception into a returned error.
func guard(err *error) {
	if r := recover(); r != nil {
		if e, ok := r.(*Error); ok {
			*err = e
			return
		}
		panic(r)
	}
}

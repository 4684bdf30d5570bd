package kv

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unsafe"
)

// Kind is the type of a [Value].
type Kind uint8

// The kinds of value. KindNone is that of the zero Value, which no stored attribute has.
const (
	KindNone Kind = iota
	KindString
	KindInt
	KindBytes
	KindBool
)

// String returns the kind's name as it appears in error messages.
func (k Kind) String() string {
	switch k {
	case KindNone:
		return "none"
	case KindString:
		return "string"
	case KindInt:
		return "int"
	case KindBytes:
		return "bytes"
	case KindBool:
		return "bool"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Value is one attribute value: a string (valid UTF-8), an int64, a []byte or a bool. It is immutable, 32 bytes, never
// allocates beyond its content, and two Values are == exactly when they have the same kind and content.
type Value struct {
	s    string // content of a string or of bytes
	n    int64  // content of an int; 1 for true
	kind Kind
}

// String makes a string value.
func String(s string) Value { return Value{s: s, kind: KindString} }

// Int makes an integer value.
func Int(n int64) Value { return Value{n: n, kind: KindInt} }

// Bytes makes a binary value without copying: the caller must not change b afterwards.
func Bytes(b []byte) Value {
	return Value{s: unsafe.String(unsafe.SliceData(b), len(b)), kind: KindBytes}
}

// Bool makes a boolean value.
func Bool(b bool) Value {
	if b {
		return Value{n: 1, kind: KindBool}
	}
	return Value{kind: KindBool}
}

// Kind returns the value's kind.
func (v Value) Kind() Kind { return v.kind }

// Str returns the string, or "" when the value is not a string.
func (v Value) Str() string {
	if v.kind != KindString {
		return ""
	}
	return v.s
}

// Int returns the integer, or 0 when the value is not an integer.
func (v Value) Int() int64 {
	if v.kind != KindInt {
		return 0
	}
	return v.n
}

// Bytes returns the content of a binary value, or nil when the value is not binary. The caller must not change it.
func (v Value) Bytes() []byte {
	if v.kind != KindBytes {
		return nil
	}
	if v.s == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(v.s), len(v.s))
}

// Bool returns the boolean, or false when the value is not one.
func (v Value) Bool() bool { return v.kind == KindBool && v.n == 1 }

// GoString renders the value for messages and test failures; long content is cut.
func (v Value) GoString() string {
	const most = 40
	switch v.kind {
	case KindString:
		if len(v.s) > most {
			return fmt.Sprintf("%q... (%d bytes)", v.s[:most], len(v.s))
		}
		return strconv.Quote(v.s)
	case KindBytes:
		if len(v.s) > most {
			return fmt.Sprintf("bytes(%q...) (%d bytes)", v.s[:most], len(v.s))
		}
		return fmt.Sprintf("bytes(%q)", v.s)
	case KindInt:
		return strconv.FormatInt(v.n, 10)
	case KindBool:
		return strconv.FormatBool(v.n == 1)
	}
	return "none"
}

// Format makes %v and %s print what GoString does.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.GoString())) }

// Compare orders two values of the same ordered kind (string, int, bytes) and reports whether they are comparable at
// all; values of different kinds, and booleans, are not.
func (v Value) Compare(w Value) (int, bool) {
	if v.kind != w.kind {
		return 0, false
	}
	switch v.kind {
	case KindString, KindBytes:
		return strings.Compare(v.s, w.s), true
	case KindInt:
		switch {
		case v.n < w.n:
			return -1, true
		case v.n > w.n:
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// Size is the number of bytes DynamoDB counts for the value: UTF-8 or raw length, 1 for a boolean, and for a number
// one byte per two significant digits plus one (plus one more when it is negative).
func (v Value) Size() int {
	switch v.kind {
	case KindString, KindBytes:
		return len(v.s)
	case KindInt:
		return intSize(v.n)
	case KindBool:
		return 1
	}
	return 0
}

func intSize(n int64) int {
	var buf [20]byte
	digits := strconv.AppendInt(buf[:0], n, 10)
	size := 1
	if digits[0] == '-' {
		digits = digits[1:]
		size++
	}
	digits = bytes.TrimRight(digits, "0")
	return size + (len(digits)+1)/2
}

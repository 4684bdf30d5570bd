package pyrepr_test

import (
	"math"
	"testing"

	"github.com/gustflow/gust/internal/pyrepr"
)

// The expectations are what CPython 3.12 prints.
func TestRepr(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0.0", math.Copysign(0, -1): "-0.0", 1: "1.0", 0.1: "0.1", 1e16: "1e+16", 123456789012345.6: "123456789012345.6", 1e-4: "0.0001", 1e-5: "1e-05",
		-2.5e-7: "-2.5e-07", 1.5e300: "1.5e+300", math.Inf(-1): "-inf", 9007199254740993: "9007199254740992.0",
	} {
		if got := pyrepr.Float(f); got != want {
			t.Errorf("Float(%v) = %s, want %s", f, got, want)
		}
	}
	for s, want := range map[string]string{
		"": "''", "it's": `"it's"`, `it's "x"`: `'it\'s "x"'`, "a\n\t\r\\": `'a\n\t\r\\'`, "\x00\x7f\u00a0é": `'\x00\x7f\xa0é'`, "\u200b😀\U000e0001": `'\u200b😀\U000e0001'`,
	} {
		if got := pyrepr.Str(s); got != want {
			t.Errorf("Str(%q) = %s, want %s", s, got, want)
		}
	}
	for s, want := range map[string]string{"a'\x00\xff\n": `b"a'\x00\xff\n"`, "é": `b'\xc3\xa9'`} {
		if got := pyrepr.Bytes(s); got != want {
			t.Errorf("Bytes(%q) = %s, want %s", s, got, want)
		}
	}
}

package dagspec

import (
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

var yamlBool = map[string]bool{"yes": true, "no": false, "true": true, "false": false, "on": true, "off": false}

// boolWords are the spellings that resolve without a tag.
var boolWords = func() map[string]bool {
	m := map[string]bool{}
	for w, v := range yamlBool {
		m[w], m[strings.ToUpper(w)], m[strings.ToUpper(w[:1])+w[1:]] = v, v, v
	}
	return m
}()

var (
	reFloat = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	reInt   = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	reDate  = regexp.MustCompile(`^(\d{4})-(\d{2})-(\d{2})$`)
	reStamp = regexp.MustCompile(`^(\d{4})-(\d{1,2})-(\d{1,2})(?:[Tt]|[ \t]+)(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d*))?(?:[ \t]*(?:(Z)|([-+])(\d{1,2})(?::(\d{2}))?))?$`)
)

// scalarKind is YAML 1.1's implicit type of a plain scalar.
type scalarKind int

const (
	kindStr scalarKind = iota
	kindNull
	kindBool
	kindInt
	kindFloat
	kindTimestamp
	kindMerge
	kindValue
)

// implicitKind classifies a plain scalar as PyYAML's resolver does.
func implicitKind(s string) scalarKind {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return kindNull
	case "<<":
		return kindMerge
	case "=":
		return kindValue
	}
	c := s[0]
	switch {
	case c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.':
		switch {
		case reInt.MatchString(s) && c != '.':
			return kindInt
		case reFloat.MatchString(s):
			return kindFloat
		case c >= '0' && c <= '9' && (reDate.MatchString(s) || reStamp.MatchString(s)):
			return kindTimestamp
		}
	case strings.IndexByte("yYnNtTfFoO", c) >= 0:
		if _, ok := boolWords[s]; ok {
			return kindBool
		}
	}
	return kindStr
}

// resolveScalar returns the value of a plain scalar.
func resolveScalar(s string) (value, error) {
	switch implicitKind(s) {
	case kindNull:
		return nil, nil
	case kindBool:
		return boolWords[s], nil
	case kindInt:
		v, ok := parseInt(s)
		if !ok {
			return nil, pyErr("ValueError", "invalid literal for int() with base 10: '%s'", s)
		}
		return v, nil
	case kindFloat:
		v, ok := parseFloat(s)
		if !ok {
			return nil, pyErr("ValueError", "could not convert string to float: '%s'", s)
		}
		return v, nil
	case kindTimestamp:
		v, _, err := parseTimestamp(s)
		return v, err
	case kindValue:
		return nil, pyErr("ConstructorError", "could not determine a constructor for the tag 'tag:yaml.org,2002:value'").hint("quote the '='")
	}
	return s, nil
}

// parseInt reads an integer as PyYAML's constructor does: octal with a leading
// 0, 0x, 0b, base 60 with colons, underscores ignored.
func parseInt(s string) (value, bool) {
	s = strings.ReplaceAll(s, "_", "")
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	n := new(big.Int)
	ok := true
	switch {
	case s == "0":
	case strings.HasPrefix(s, "0b"):
		_, ok = n.SetString(s[2:], 2)
	case strings.HasPrefix(s, "0x"):
		_, ok = n.SetString(s[2:], 16)
	case strings.HasPrefix(s, "0"):
		_, ok = n.SetString(s, 8)
	case strings.Contains(s, ":"):
		for _, part := range strings.Split(s, ":") {
			d, good := new(big.Int).SetString(part, 10)
			if !good {
				return nil, false
			}
			n.Mul(n, big.NewInt(60)).Add(n, d)
		}
	default:
		if len(s) < 18 {
			v, err := strconv.ParseInt(s, 10, 64)
			if neg {
				v = -v
			}
			return v, err == nil
		}
		if len(s) > 4300 {
			return nil, false // Python refuses longer ones as well
		}
		_, ok = n.SetString(s, 10)
	}
	if !ok {
		return nil, false
	}
	if neg {
		n.Neg(n)
	}
	if n.IsInt64() {
		return n.Int64(), true
	}
	return n, true
}

func parseFloat(s string) (value, bool) {
	s = strings.ToLower(strings.ReplaceAll(s, "_", ""))
	sign := 1.0
	if strings.HasPrefix(s, "-") {
		sign = -1
	}
	s = strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	switch {
	case s == ".inf":
		return math.Inf(int(sign)), true
	case s == ".nan":
		return math.NaN(), true
	case strings.Contains(s, ":"):
		v := 0.0
		for _, part := range strings.Split(s, ":") {
			f, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return nil, false
			}
			v = v*60 + f
		}
		return sign * v, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return nil, false
	}
	return sign * f, true
}

// parseTimestamp reads a YAML timestamp; impossible dates are a ValueError.
func parseTimestamp(s string) (value, bool, error) {
	num := func(t string) int { n, _ := strconv.Atoi(t); return n }
	if m := reDate.FindStringSubmatch(s); m != nil {
		d := &date{num(m[1]), num(m[2]), num(m[3])}
		return d, true, checkDate(d.y, d.m, d.d)
	}
	m := reStamp.FindStringSubmatch(s)
	if m == nil {
		return nil, false, nil
	}
	frac := m[7]
	if len(frac) > 6 {
		frac = frac[:6]
	}
	for len(frac) < 6 {
		frac += "0"
	}
	t := &datetime{date: date{num(m[1]), num(m[2]), num(m[3])}, timeOfDay: timeOfDay{num(m[4]), num(m[5]), num(m[6]), num(frac)}}
	if err := checkDate(t.y, t.m, t.d); err != nil {
		return nil, true, err
	}
	if err := checkTime(t.h, t.mi, t.s, t.us); err != nil {
		return nil, true, err
	}
	if m[8] == "Z" {
		t.zone = &timezone{name: "UTC"}
	} else if m[9] != "" {
		off := num(m[10])*3600 + num(m[11])*60
		if m[9] == "-" {
			off = -off
		}
		if off <= -86400 || off >= 86400 {
			return nil, true, pyErr("ValueError", "offset must be a timedelta strictly between -timedelta(hours=24) and timedelta(hours=24)")
		}
		t.zone = &timezone{name: "", offset: off}
	}
	return t, true, nil
}

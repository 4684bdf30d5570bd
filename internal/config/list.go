package config

import (
	_ "embed"
	"regexp"
	"strings"
)

// Option describes one setting, for `gust config list`.
type Option struct {
	Section     string `json:"section"`
	Key         string `json:"key"`
	Value       string `json:"value"` // *** for secrets that are set
	Default     string `json:"default"`
	Source      string `json:"source"` // default, file:line or environment variable
	Env         string `json:"env_var"`
	Description string `json:"description"`
	Sensitive   bool   `json:"sensitive"`
	// NoEffect says why the setting changes nothing in this version; "" if it does.
	NoEffect string `json:"no_effect,omitempty"`
}

// Options returns every setting, by section and key.
func (c *Config) Options() []Option {
	out := make([]Option, len(c.settings))
	for i, s := range c.settings {
		v := s.value
		if s.sensitive && v != "" {
			v = "***"
		}
		out[i] = Option{
			Section: s.section, Key: s.key, Value: v, Default: s.def, Source: s.source, Sensitive: s.sensitive,
			Env: "AIRFLOW__" + strings.ToUpper(s.section) + "__" + strings.ToUpper(s.key), Description: descriptions[name{s.section, s.key}],
			NoEffect: s.tag.Get("noeffect"),
		}
	}
	return out
}

// Get returns the value of a setting as text, *** for a secret; ok is false if
// there is no such setting.
func (c *Config) Get(section, key string) (value string, ok bool) {
	for _, o := range c.Options() {
		if o.Section == strings.ToLower(section) && o.Key == strings.ToLower(key) {
			return o.Value, true
		}
	}
	return "", false
}

// Ignored returns the settings that were given and that change nothing: those of
// Airflow that Gust has no use for, and those that nothing follows from yet.
func (c *Config) Ignored() []Ignored {
	out := append([]Ignored(nil), c.ignored...)
	for _, s := range c.settings {
		if why := s.tag.Get("noeffect"); why != "" && s.source != "default" {
			out = append(out, Ignored{s.section, s.key, s.source, why})
		}
	}
	return out
}

//go:embed options.go
var optionsSource string

//go:embed observability.go
var observabilitySource string

// descriptions are the comments of the fields: written once, where the fields are.
var descriptions = describe(optionsSource + observabilitySource)

func describe(source string) map[name]string {
	sections := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\t\\w+\\s+(\\w+)\\s+`section:\"(\\w+)\"`").FindAllStringSubmatch(source, -1) {
		sections[m[1]] = m[2]
	}
	typeLine := regexp.MustCompile(`^type (\w+) struct`)
	keyTag := regexp.MustCompile("`key:\"(\\w+)\"")
	out := map[name]string{}
	var comment []string
	section := ""
	for _, line := range strings.Split(source, "\n") {
		if m := typeLine.FindStringSubmatch(line); m != nil {
			section = sections[m[1]]
		}
		trimmed := strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(trimmed, "// "); ok {
			comment = append(comment, text)
			continue
		}
		if m := keyTag.FindStringSubmatch(line); m != nil {
			text := strings.Join(comment, " ")
			// "Parallelism is how many …" → "How many …" would need grammar; the
			// field's name is dropped for the key instead.
			field, rest, _ := strings.Cut(text, " ")
			if strings.HasPrefix(trimmed, field) {
				text = m[1] + " " + rest
			}
			out[name{section, m[1]}] = text
		}
		comment = nil
	}
	return out
}

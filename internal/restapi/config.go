package restapi

import (
	"net/http"
	"strings"

	"github.com/gustflow/gust/internal/auth"
)

// Setting is one option of the configuration.
type Setting struct {
	Section, Key, Value string
	// Sensitive values are never shown.
	Sensitive bool
}

// Config is the configuration.
type Config struct {
	Sections []ConfigSection `json:"sections"`
}

// ConfigSection is a section of the configuration.
type ConfigSection struct {
	Name    string         `json:"name"`
	Options []ConfigOption `json:"options"`
}

// ConfigOption is an option of the configuration.
type ConfigOption struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type getConfig struct {
	Section *string `query:"section"`
	Accept  string  `header:"accept"`
}

type getConfigValue struct {
	Section string `path:"section"`
	Option  string `path:"option"`
	Accept  string `header:"accept"`
}

func registerConfig(a *API) {
	op := Op{Method: "GET", Path: Base + "/config", ID: "get_config", Tag: "Config", Summary: "Get Config", Action: auth.Read, Resource: auth.ResourceConfig, Answers: []any{Config{}}, ContentTypes: []string{"text/plain"}}
	Handle(a, op, func(r *Request, in *getConfig) (Raw, error) {
		return r.config(in.Accept, func(s Setting) bool { return in.Section == nil || s.Section == strings.ToLower(*in.Section) }, func() error {
			return NotFound("Section %s not found.", *in.Section)
		})
	})
	op.Path, op.ID, op.Summary = Base+"/config/section/{section}/option/{option}", "get_config_value", "Get Config Value"
	Handle(a, op, func(r *Request, in *getConfigValue) (Raw, error) {
		return r.config(in.Accept, func(s Setting) bool {
			return s.Section == strings.ToLower(in.Section) && s.Key == strings.ToLower(in.Option)
		}, func() error {
			return NotFound("Option [%s/%s] not found.", in.Section, in.Option)
		})
	})
}

// config answers with the settings that keep takes, in the form that is accepted.
func (r *Request) config(accept string, keep func(Setting) bool, none func() error) (Raw, error) {
	as := accepts(accept, "application/json", "text/plain")
	if as == "" {
		return Raw{}, Errorf(http.StatusNotAcceptable, "Only application/json or text/plain is supported")
	}
	if r.API.Settings == nil {
		return Raw{}, Errorf(http.StatusForbidden, "Your Airflow administrator chose not to expose the configuration, most likely for security reasons.")
	}
	out := Config{Sections: []ConfigSection{}}
	var text strings.Builder
	for _, s := range r.API.Settings() {
		if !keep(s) {
			continue
		}
		if s.Sensitive {
			s.Value = "< hidden >"
		}
		if n := len(out.Sections); n == 0 || out.Sections[n-1].Name != s.Section {
			out.Sections = append(out.Sections, ConfigSection{Name: s.Section})
			text.WriteString("[" + s.Section + "]\n")
		}
		last := &out.Sections[len(out.Sections)-1]
		last.Options = append(last.Options, ConfigOption{s.Key, s.Value})
		text.WriteString(s.Key + " = " + strings.ReplaceAll(s.Value, "\n", "\n    ") + "\n")
	}
	if len(out.Sections) == 0 {
		return Raw{}, none()
	}
	if as == "text/plain" {
		return Raw{ContentType: as, Body: []byte(text.String())}, nil
	}
	return jsonRaw(out)
}

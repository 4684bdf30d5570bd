package dagspec

import (
	_ "embed"
	"strings"
	"sync"
)

// k8smodels.txt lists the models of the Kubernetes client that a pod is made
// of, one a line: the class, then its constructor's arguments.
//
//go:embed k8smodels.txt
var kubernetesModels string

var loadKubernetes = sync.OnceValue(func() map[string][]string {
	m := map[string][]string{}
	for _, line := range strings.Split(kubernetesModels, "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			m[f[0]] = f[1:]
		}
	}
	return m
})

// kubernetesModel builds an object of kubernetes.client. Its arguments are
// checked; the Python worker builds it again.
func (l *loader) kubernetesModel(name string, args []value, kw *dict) (value, error) {
	fields, known := loadKubernetes()[name]
	if !known {
		return newInstance(&class{kubernetesPath(name)}, args, kw), nil
	}
	a, _, err := (&signature{name: name + ".__init__", pos: append(append([]string(nil), fields...), "local_vars_configuration")}).bind(args, kw)
	if err != nil {
		return nil, err
	}
	o := newInstance(&class{kubernetesPath(name)}, args, kw)
	if !l.opt.Strict {
		return o, nil // the documentation shows what the author wrote
	}
	o.attrs = []attr{{"local_vars_configuration", kubernetesConfiguration()}}
	for _, f := range fields {
		o.attrs = append(o.attrs, attr{"_" + f, a[f]})
	}
	o.attrs = append(o.attrs, attr{"discriminator", nil})
	return o, nil
}

var (
	packageLogger = &object{class: &class{"logging.Logger"}, kind: kindOther, args: []value{"client"}}
	urllib3Logger = &object{class: &class{"logging.Logger"}, kind: kindOther, args: []value{"urllib3"}}
)

// kubernetesConfiguration is the client's default configuration, which every
// model carries and PyYAML therefore dumps with it. The size of the connection
// pool is five times the number of processors there; a document must not depend
// on the machine, so it is that of two.
func kubernetesConfiguration() *object {
	const format = "%(asctime)s %(levelname)s %(message)s"
	style := &object{class: &class{"logging.PercentStyle"}, kind: kindOther, attrs: []attr{{"_fmt", format}, {"_defaults", nil}}}
	formatter := &object{class: &class{"logging.Formatter"}, kind: kindOther, attrs: []attr{{"_style", style}, {"_fmt", format}, {"datefmt", nil}}}
	loggers := &dict{}
	loggers.put("package_logger", packageLogger)
	loggers.put("urllib3_logger", urllib3Logger)
	d := func() *dict { return &dict{} }
	return &object{class: &class{"kubernetes.client.configuration.Configuration"}, kind: kindOther, attrs: []attr{
		{"_base_path", "http://localhost"}, {"server_index", int64(0)}, {"server_operation_index", d()}, {"server_variables", d()},
		{"server_operation_variables", d()}, {"temp_folder_path", nil}, {"api_key", d()}, {"api_key_prefix", d()}, {"refresh_api_key_hook", nil},
		{"username", nil}, {"password", nil}, {"discard_unknown_keys", false}, {"disabled_client_side_validations", ""},
		{"_disabled_client_side_validations", &set{}}, {"_Configuration__logger_format", format}, {"logger_formatter", formatter},
		{"logger_stream_handler", nil}, {"_Configuration__logger_file", nil}, {"_Configuration__debug", false}, {"verify_ssl", true},
		{"ssl_ca_cert", nil}, {"cert_file", nil}, {"key_file", nil}, {"assert_hostname", nil}, {"tls_server_name", nil},
		{"connection_pool_maxsize", int64(10)}, {"proxy", nil}, {"no_proxy", nil}, {"proxy_headers", nil}, {"safe_chars_for_path_param", ""},
		{"retries", nil}, {"client_side_validation", true}, {"socket_options", nil}, {"logger", loggers},
	}}
}

// Command knative checks what the chart renders by Knative's own code, and runs the chain on Knative's own broker.
//
//	knative validate FILE…                                        strict types, SetDefaults, Validate, this project's rules
//	knative broker -port N -subscriber NAME=URL … FILE…           Knative's multi-tenant broker on the rendered Broker and Triggers
//	… -oidc                                                       with Eventing's feature authentication-oidc enabled
//	knative funcyaml -schema FILE func.yaml…                      func.yaml against func's own JSON Schema
//	knative versions                                              the modules this is made of
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

type pairs map[string]string

func (p pairs) String() string { return fmt.Sprint(map[string]string(p)) }

func (p pairs) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("%s is not NAME=URL", text)
	}
	p[name] = value
	return nil
}

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func command(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("usage: knative validate|broker|versions")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ExitOnError)
	namespace := flags.String("namespace", "agents", "the namespace of what names none")
	port := flags.Int("port", 0, "the ingress' port on 127.0.0.1")
	oidc := flags.Bool("oidc", false, "with Eventing's feature authentication-oidc")
	issuerPort := flags.Int("issuer-port", 0, "where on 127.0.0.1 the issuer of tokens listens")
	schema := flags.String("schema", "", "func_yaml-schema.json of the module knative.dev/func")
	subscribers := pairs{}
	flags.Var(subscribers, "subscriber", "where a Knative Service is: NAME=URL")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	if arguments[0] == "versions" {
		return versions()
	}
	if arguments[0] == "funcyaml" {
		return checkFuncYAML(*schema, flags.Args())
	}
	if *oidc {
		enabled["authentication-oidc"] = "enabled"
	}
	objects, err := read(flags.Args(), *namespace)
	if err != nil {
		return err
	}
	switch arguments[0] {
	case "validate":
		return report(objects)
	case "broker":
		validate(objects) // SetDefaults, as at admission
		return runBroker(objects, subscribers, *port, *issuerPort)
	default:
		return fmt.Errorf("%s is not a command", arguments[0])
	}
}

func report(objects []object) error {
	found := validate(objects)
	for _, err := range found {
		fmt.Fprintln(os.Stderr, err)
	}
	var unknown []string
	for _, one := range objects {
		if one.decoded == nil {
			unknown = append(unknown, one.kind+" "+one.name)
		}
	}
	fmt.Printf("%d objects decoded into their Go types and validated\n", len(objects)-len(unknown))
	for _, one := range unknown {
		fmt.Printf("no Go type at hand: %s\n", one)
	}
	if len(found) > 0 {
		return fmt.Errorf("%d wrong", len(found))
	}
	return nil
}

func versions() error {
	info, _ := debug.ReadBuildInfo()
	fmt.Println(info.GoVersion)
	for _, module := range info.Deps {
		switch module.Path {
		case "knative.dev/eventing", "knative.dev/serving", "knative.dev/pkg", "k8s.io/client-go", "sigs.k8s.io/gateway-api",
			"istio.io/client-go", "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring":
			fmt.Println(module.Path, module.Version)
		}
	}
	return nil
}

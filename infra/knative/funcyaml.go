package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/santhosh-tekuri/jsonschema/v6"
	sigsyaml "sigs.k8s.io/yaml"
)

// checkFuncYAML validates func.yaml files against func's own schema (schema/func_yaml-schema.json of its module).
//
// The newest module that the Go proxy gives is older than the func that the files are for, so what func changed since is
// changed here first: fields that it no longer requires, and deploy.serviceAccountName, which it has since 1.15.
func checkFuncYAML(schemaFile string, files []string) error {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		return err
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		return err
	}
	definitions := schema["definitions"].(map[string]any)
	for _, name := range []string{"BuildSpec", "RunSpec", "DeploySpec", "Env"} {
		delete(definitions[name].(map[string]any), "required")
	}
	definitions["Function"].(map[string]any)["required"] = []any{"specVersion", "created", "name", "runtime"}
	deploy := definitions["DeploySpec"].(map[string]any)["properties"].(map[string]any)
	deploy["serviceAccountName"] = map[string]any{"type": "string"}

	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("func.json", schema); err != nil {
		return err
	}
	compiled, err := compiler.Compile("func.json")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var document any
		if err := sigsyaml.UnmarshalStrict(text, &document); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := compiled.Validate(document); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Printf("%s is valid\n", file)
	}
	return nil
}

// Command health says what Argo CD and Flux make of objects: it runs Argo CD's health scripts in the interpreter that
// Argo CD runs them in, and Flux's health check expressions and kstatus in the very code of kustomize-controller.
//
// It reads a JSON array of questions from standard input and writes a JSON array of answers, in the same order.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Argo CD ends a script after so long.
const scriptDeadline = time.Second

type question struct {
	// The object, as the API server returns it.
	Object *unstructured.Unstructured `json:"object"`
	// A script of Argo CD's. Without it, and without expressions, kstatus is asked.
	Lua string `json:"lua"`
	// One entry of a Flux Kustomization's spec.healthCheckExprs.
	Expressions *kustomize.HealthCheckExpressions `json:"expressions"`
}

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	// Why there is no status.
	Error string `json:"error,omitempty"`
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		fmt.Fprintln(os.Stderr, "the questions:", err)
		os.Exit(1)
	}
	answers := make([]answer, 0, len(questions))
	for _, question := range questions {
		said, err := ask(question)
		if err != nil {
			said = answer{Error: err.Error()}
		}
		answers = append(answers, said)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, "the answers:", err)
		os.Exit(1)
	}
}

func ask(of question) (answer, error) {
	switch {
	case of.Object == nil:
		return answer{}, fmt.Errorf("a question without an object")
	case of.Lua != "":
		return runScript(of.Object, of.Lua)
	case of.Expressions != nil:
		evaluator, err := cel.NewStatusEvaluator(of.Expressions)
		if err != nil {
			return answer{}, err
		}
		return told(evaluator.Evaluate(context.Background(), of.Object))
	default:
		return told(status.Compute(of.Object))
	}
}

func told(result *status.Result, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return answer{Status: result.Status.String(), Message: result.Message}, nil
}

// runScript gives a script what Argo CD gives it unless resource.customizations.useOpenLibs is set: the global obj, the
// basic functions and the table library. Argo CD has a part of os besides, which no script here needs.
func runScript(object *unstructured.Unstructured, script string) (answer, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		opening := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(opening, lua.LString(library.name)); err != nil {
			return answer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptDeadline)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", luaValue(state, object.Object))
	if err := state.DoString(script); err != nil {
		return answer{}, err
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return answer{}, fmt.Errorf("the script returns a %s and no table", state.Get(-1).Type())
	}
	said := answer{Status: text(result, "status"), Message: text(result, "message")}
	switch said.Status {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
		return said, nil
	default:
		return answer{}, fmt.Errorf("the script returns the status %q, which Argo CD does not know", said.Status)
	}
}

// text is a field that holds a string; Argo CD refuses any other, and takes an absent one for empty.
func text(table *lua.LTable, field string) string {
	switch value := table.RawGetString(field).(type) {
	case lua.LString:
		return string(value)
	case *lua.LNilType:
		return ""
	default:
		return fmt.Sprintf("%s is a %s", field, value.Type())
	}
}

// luaValue is a value of an unstructured object as a script sees it: null is nil, so that the field is absent.
func luaValue(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		list := state.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(luaValue(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for name, item := range value {
			table.RawSetString(name, luaValue(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}

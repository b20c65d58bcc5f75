// Reads objects, one JSON object a line, and writes the status that kstatus computes for each: its status and its message.
//
// kstatus is the rule by which Flux, kpt and others decide whether an object is done.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

const maxLine = 1 << 20

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var object map[string]any
		if err := utiljson.Unmarshal(lines.Bytes(), &object); err != nil {
			return err
		}
		result, err := status.Compute(&unstructured.Unstructured{Object: object})
		if err != nil {
			return err
		}
		if err := out.Encode(map[string]string{"status": result.Status.String(), "message": result.Message}); err != nil {
			return err
		}
	}
	return lines.Err()
}

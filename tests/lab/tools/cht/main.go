// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Plays CHT's services, each by its name in STUB: what they answer, how long they take, what they wait for and when they end.
//
// tests/lab/README.md names the source of each behaviour. What takes time takes what the real ones took, multiplied by STUB_TIME.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Seconds that the real ones took (CHT 4.22.0 with CouchDB 3.5.0), where they could be told apart: together they are what was measured.
const (
	couchdbStarts   = 3.0
	couchdbEnds     = 1.5
	healthStarts    = 1.0
	upgraderStarts  = 1.0
	nouveauStarts   = 3.0
	sentinelStarts  = 2.0
	apiBegins       = 0.5
	apiTranslates   = 1.5
	apiChecks       = 0.5
	apiInstalls     = 1.0
	apiIndexes      = 20.0
	apiConfigures   = 1.0
	apiMigrates     = 1.0
	apiMakesForms   = 1.5
	bootstrapPauses = 5.0
)

var services = map[string]func(){
	"cht-couchdb":             playCouchdb,
	"cht-couchdb-nouveau":     playNouveau,
	"cht-api":                 playAPI,
	"cht-sentinel":            playSentinel,
	"cht-haproxy-healthcheck": playHealthcheck,
	"upgrade-service":         playUpgradeService,
}

// Services whose process takes SIGTERM itself: Erlang's and Java's machines do. All others are below a shell or an interpreter that is PID 1 and ignores it.
var obedient = map[string]float64{"cht-couchdb": couchdbEnds, "cht-couchdb-nouveau": 0}

var pace = 1.0

func main() {
	play, known := services[os.Getenv("STUB")]
	if !known {
		fail("STUB is '%s': nothing of CHT is called so", os.Getenv("STUB"))
	}
	if text := os.Getenv("STUB_TIME"); text != "" {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || value < 0 {
			fail("STUB_TIME is '%s': a factor is needed, 1 for the time that the real ones take", text)
		}
		pace = value
	}
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if pause, obeys := obedient[os.Getenv("STUB")]; obeys {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
		go func() {
			<-asked
			say("ends")
			took(pause)
			os.Exit(0)
		}()
	}
	play()
}

func say(format string, values ...any) {
	fmt.Printf("stub of %s:%s: %s\n", os.Getenv("STUB"), os.Getenv("STUB_TAG"), fmt.Sprintf(format, values...))
}

func fail(format string, values ...any) {
	say(format, values...)
	os.Exit(1)
}

// took lets pass what the real one takes for something.
func took(seconds float64) {
	time.Sleep(time.Duration(seconds * pace * float64(time.Second)))
}

// stay for ever; a select without cases is taken for a deadlock where nothing else waits.
func stay() {
	for {
		time.Sleep(time.Hour)
	}
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// port of a service; a Service of the same name makes kubelet set it to tcp://...: what the manifest should have kept out.
func port(name, otherwise string) string {
	value := setting(name, otherwise)
	if strings.HasPrefix(value, "tcp://") {
		fail("port is %s: service links hide the value of the manifest", value)
	}
	return value
}

func listen(port string) net.Listener {
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("STUB_ADDRESS"), port))
	if err != nil {
		fail("%s", err)
	}
	say("answers on %s", port)
	return listener
}

func serve(port string, handler http.Handler) {
	fail("%s", (&http.Server{Handler: handler}).Serve(listen(port)))
}

func answer(w http.ResponseWriter, status int, body any) {
	text, _ := json.Marshal(body)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

func read(r io.Reader, target any) bool {
	return json.NewDecoder(r).Decode(target) == nil
}

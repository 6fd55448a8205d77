// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	ddoc       = "/_design/medic"
	stagedDdoc = "/_design/:staged:medic"
	// Failed logins of one client, user or password within a time.
	failuresAllowed = 10
	failureWindow   = 10 * time.Second
)

// step of API's start, as its page shows them.
type step struct {
	Translation string `json:"translation"`
	Text        string `json:"text"`
	Display     bool   `json:"display"`
	Started     bool   `json:"started,omitempty"`
	Completed   bool   `json:"completed,omitempty"`
}

type api struct {
	couch    *url.URL
	database string
	version  string
	ready    atomic.Bool
	mutex    sync.Mutex
	steps    map[string]*step
	failures map[string][]time.Time
	began    time.Time
	upgrade  upgrade
}

func playAPI() {
	address, err := url.Parse(os.Getenv("COUCH_URL"))
	if err != nil || strings.Trim(address.Path, "/") == "" || strings.Contains(strings.Trim(address.Path, "/"), "/") {
		fail("COUCH_URL must have only one path segment, as http://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	a := &api{
		couch: address, database: strings.Trim(address.Path, "/"), version: os.Getenv("STUB_TAG"), failures: map[string][]time.Time{}, began: time.Now(),
		steps: map[string]*step{
			"checks": {"api.startup.checks", "Running installation checks", true, false, false}, "install": {"api.startup.install", "Installing", false, false, false},
			"index": {"api.startup.index", "Indexing data", false, false, false}, "config": {"api.startup.config", "Configuring CHT", true, false, false},
			"migrate": {"api.startup.migrate", "Migrating data", true, false, false}, "forms": {"api.startup.forms", "Preparing forms", true, false, false},
		},
	}
	a.upgrade.api = a
	listening := port("API_PORT", "5988")
	took(apiBegins)
	a.awaitCouchdb()
	for _, name := range []string{a.database, a.database + "-sentinel", a.database + "-users-meta", a.database + "-logs", a.database + "-vault"} {
		if status, _ := a.ask(http.MethodPut, "/"+name, nil, nil); status != 201 && status != 412 {
			fail("Fatal error initialising medic-api: /%s can't be made (%d)", name, status)
		}
	}
	took(apiTranslates)
	listener := listen(listening)
	go func() { fail("%s", (&http.Server{Handler: a}).Serve(listener)) }()
	a.start("checks")
	took(apiChecks)
	a.checkInstall()
	a.start("config")
	took(apiConfigures)
	for _, name := range []string{a.database, a.database + "-sentinel", "_users"} {
		go a.follow(name)
	}
	a.start("migrate")
	took(apiMigrates)
	a.start("forms")
	took(apiMakesForms)
	a.start("")
	a.ready.Store(true)
	say("is ready")
	stay()
}

// ask CouchDB, through haproxy, as its administrator.
func (a *api) ask(method, path string, body, target any) (int, error) {
	var sent io.Reader
	if body != nil {
		data, _ := json.Marshal(body)
		sent = bytes.NewReader(data)
	}
	request, _ := http.NewRequest(method, a.address(path), sent)
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && target != nil && response.StatusCode < 300 {
		err = json.Unmarshal(data, target)
	}
	return response.StatusCode, err
}

func (a *api) address(path string) string {
	return a.couch.Scheme + "://" + a.couch.User.String() + "@" + a.couch.Host + path
}

// awaitCouchdb waits for ever: for an answer, for one membership whichever node is asked, for the system's databases.
func (a *api) awaitCouchdb() {
	for ; ; time.Sleep(time.Second) {
		problem := a.couchdbProblem()
		if problem == "" {
			return
		}
		say("waits for CouchDB: %s", problem)
	}
}

func (a *api) couchdbProblem() string {
	if status, err := a.ask(http.MethodGet, "/", nil, nil); err != nil || status != 200 {
		return fmt.Sprintf("it answers %d", status)
	}
	last := ""
	for range 3 {
		var found struct {
			All     []string `json:"all_nodes"`
			Members []string `json:"cluster_nodes"`
		}
		if status, err := a.ask(http.MethodGet, "/_membership", nil, &found); err != nil || status != 200 {
			return fmt.Sprintf("it answers /_membership with %d", status)
		}
		text := strings.Join(found.All, " ")
		if text != strings.Join(found.Members, " ") || last != "" && text != last {
			return "Cluster not ready"
		}
		last = text
	}
	for _, name := range []string{"_users", "_replicator", "_global_changes"} {
		if status, err := a.ask(http.MethodGet, "/"+name, nil, nil); err != nil || status != 200 {
			return "System databases do not exist"
		}
	}
	return ""
}

// start begins a step and ends those before it.
func (a *api) start(name string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for _, item := range a.steps {
		item.Completed = item.Started
	}
	if name != "" {
		say("begins to %s", name)
		a.steps[name].Display, a.steps[name].Started = true, true
	}
}

func (a *api) progress() map[string]any {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	steps, completed := map[string]step{}, true
	for name, item := range a.steps {
		steps[name] = *item
		completed = completed && (item.Completed || !item.Display)
	}
	return map[string]any{"actions": steps, "completed": completed}
}

type designDocument struct {
	ID      string         `json:"_id,omitempty"`
	Rev     string         `json:"_rev,omitempty"`
	Version string         `json:"version"`
	Build   map[string]any `json:"build_info,omitempty"`
	Deploy  map[string]any `json:"deploy_info,omitempty"`
}

func (a *api) design(path string) (designDocument, bool, error) {
	var found designDocument
	status, err := a.ask(http.MethodGet, "/"+a.database+path, nil, &found)
	if err == nil && status != 200 && status != 404 {
		err = fmt.Errorf("%s can't be read (%d)", path, status)
	}
	return found, status == 200, err
}

// needed ends API, as all that goes wrong before it is ready does.
func needed(err error) {
	if err != nil {
		fail("Fatal error initialising medic-api: %s", err)
	}
}

// checkInstall compares the views of the database with those of this version: goes on, takes the staged ones, or indexes, whoever waits.
func (a *api) checkInstall() {
	live, installed, err := a.design(ddoc)
	needed(err)
	if installed && live.Version == a.version {
		a.upgrade.set("interrupted")
		return
	}
	a.start("install")
	staged, found, err := a.design(stagedDdoc)
	needed(err)
	if found && staged.Version == a.version {
		say("takes what is staged")
		needed(a.finalize())
		return
	}
	took(apiInstalls)
	needed(a.stage(a.version))
	a.start("index")
	if installed {
		say("indexes")
		took(apiIndexes)
	}
	needed(a.finalize())
}

// stage keeps the views of a version beside those that are in use.
func (a *api) stage(version string) error {
	if err := a.unstage(); err != nil {
		return err
	}
	build := map[string]any{"namespace": "medic", "application": "medic", "version": version}
	return a.keep(stagedDdoc, designDocument{Version: version, Build: build})
}

func (a *api) unstage() error {
	staged, found, err := a.design(stagedDdoc)
	if err == nil && found {
		_, err = a.ask(http.MethodDelete, "/"+a.database+stagedDdoc+"?rev="+staged.Rev, nil, nil)
	}
	return err
}

// finalize puts the staged views in the place of those that were in use.
func (a *api) finalize() error {
	a.upgrade.set("complete")
	a.upgrade.set("finalizing")
	staged, _, err := a.design(stagedDdoc)
	if err != nil {
		return err
	}
	live, _, err := a.design(ddoc)
	if err != nil {
		return err
	}
	deployed := map[string]any{"timestamp": time.Now().UnixMilli()}
	if err := a.keep(ddoc, designDocument{Rev: live.Rev, Version: staged.Version, Build: staged.Build, Deploy: deployed}); err != nil {
		return err
	}
	if err := a.unstage(); err != nil {
		return err
	}
	a.upgrade.set("finalized")
	return nil
}

func (a *api) keep(path string, document designDocument) error {
	status, err := a.ask(http.MethodPut, "/"+a.database+path, document, nil)
	if err == nil && status != 201 {
		err = fmt.Errorf("%s can't be written (%d)", path, status)
	}
	return err
}

// follow a database's changes; API ends with its feed.
func (a *api) follow(name string) {
	response, err := http.Get(a.address("/" + name + "/_changes?feed=continuous&since=now"))
	if err == nil {
		if response.StatusCode == 200 {
			_, err = io.Copy(io.Discard, response.Body)
		} else {
			err = fmt.Errorf("%d", response.StatusCode)
		}
	}
	fail("Error watching %s changes, restarting: %v", name, err)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !a.ready.Load() {
		a.startPage(w, r)
		return
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch path {
	case "/api/info":
		// The version of the package, which was never raised.
		answer(w, 200, map[string]string{"version": "0.1.0"})
		return
	case "/setup/poll":
		answer(w, 200, map[string]any{"ready": true, "handler": "medic-api", "version": "0.1.0", "detail": "All required services are running normally"})
		return
	case "/api/v1/startup-progress":
		answer(w, 200, a.progress())
		return
	case "/api/v2/monitoring", "/api/v1/monitoring":
		a.monitoring(w)
		return
	case "/medic/login", "/" + a.database + "/login":
		a.login(w, r)
		return
	}
	user, roles, status := a.account(r)
	if status != 200 {
		if path == "" && r.Method == http.MethodGet {
			http.Redirect(w, r, "/medic/login?redirect=%2F", http.StatusFound)
			return
		}
		answer(w, status, map[string]any{"code": status, "error": map[int]string{401: "unauthorized", 429: "Too many failed login attempts"}[status]})
		return
	}
	switch {
	case path == "/api/deploy-info" || path == "/api/v1/deploy-info":
		live, _, err := a.design(ddoc)
		if err != nil {
			answer(w, 500, map[string]any{"code": 500, "error": "Server error"})
			return
		}
		answer(w, 200, map[string]any{"version": live.Version, "namespace": "medic", "application": "medic", "timestamp": live.Deploy["timestamp"]})
	case strings.HasPrefix(path, "/api/v1/upgrade") || strings.HasPrefix(path, "/api/v2/upgrade"):
		if !isAdministrator(roles) {
			answer(w, 403, map[string]any{"code": 403, "error": "Insufficient privileges"})
			return
		}
		a.upgrade.serve(w, r, path, user)
	case path == "/_session" || strings.HasPrefix(path, "/_") || path == "/"+a.database || strings.HasPrefix(path, "/"+a.database+"/"):
		a.proxy(w, r)
	case path == "":
		page(w, 200, "Community Health Toolkit")
	default:
		answer(w, 404, map[string]any{"code": 404, "error": "Not found"})
	}
}

// startPage is all that API answers until it is ready.
func (a *api) startPage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v1/startup-progress" {
		answer(w, 200, a.progress())
	} else if strings.Contains(r.Header.Get("Accept"), "application/json") {
		answer(w, 503, map[string]string{"error": "Service unavailable"})
	} else {
		page(w, 503, "The Community Health Toolkit is starting")
	}
}

func page(w http.ResponseWriter, status int, title string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<!doctype html><html><head><title>%s</title></head><body>stub of %s:%s</body></html>\n", title, os.Getenv("STUB"), os.Getenv("STUB_TAG"))
}

func (a *api) monitoring(w http.ResponseWriter) {
	live, found := designDocument{}, map[string]any{}
	if status, err := a.ask(http.MethodGet, "/"+a.database+ddoc, nil, &live); err != nil || status != 200 {
		answer(w, 500, map[string]any{"code": 500, "error": "Server error"})
		return
	}
	for label, name := range map[string]string{"medic": a.database, "sentinel": a.database + "-sentinel", "usersmeta": a.database + "-users-meta", "users": "_users"} {
		var info struct {
			Name    string `json:"db_name"`
			Count   int    `json:"doc_count"`
			Deleted int    `json:"doc_del_count"`
			Seq     string `json:"update_seq"`
		}
		if status, err := a.ask(http.MethodGet, "/"+name, nil, &info); err != nil || status != 200 {
			answer(w, 500, map[string]any{"code": 500, "error": "Server error"})
			return
		}
		sequence, _, _ := strings.Cut(info.Seq, "-")
		number := json.Number(sequence)
		found[label] = map[string]any{"name": info.Name, "update_sequence": number, "doc_count": info.Count, "doc_del_count": info.Deleted, "fragmentation": 1}
	}
	answer(w, 200, map[string]any{
		"version": map[string]string{"app": live.Version, "node": "v22.0.0", "couchdb": "3.5.0"}, "couchdb": found,
		"date":     map[string]any{"current": time.Now().UTC().Format(time.RFC3339), "uptime": time.Since(a.began).Seconds()},
		"sentinel": map[string]int{"backlog": 0}, "outbound_push": map[string]int{"backlog": 0}, "connected_users": map[string]int{"count": 0},
		"messaging": map[string]any{"outgoing": map[string]any{"total": map[string]int{"due": 0, "scheduled": 0, "muted": 0, "delivered": 0, "failed": 0}}},
		"feedback":  map[string]int{"count": 0}, "conflict": map[string]int{"count": 0}, "replication_limit": map[string]int{"count": 0},
	})
}

// account asks CouchDB who it is that asks.
func (a *api) account(r *http.Request) (string, []string, int) {
	if r.Header.Get("Authorization") == "" && r.Header.Get("Cookie") == "" {
		return "", nil, 401
	}
	name, password, _ := r.BasicAuth()
	keys := a.keys(r, name, password)
	if a.limited(keys) {
		return "", nil, 429
	}
	request, _ := http.NewRequest(http.MethodGet, a.couch.Scheme+"://"+a.couch.Host+"/_session", nil)
	for _, header := range []string{"Authorization", "Cookie"} {
		if value := r.Header.Get(header); value != "" {
			request.Header.Set(header, value)
		}
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return "", nil, 500
	}
	defer response.Body.Close()
	var session struct {
		User struct {
			Name  string   `json:"name"`
			Roles []string `json:"roles"`
		} `json:"userCtx"`
	}
	if response.StatusCode >= 500 {
		return "", nil, 500
	}
	if response.StatusCode != 200 || !read(response.Body, &session) || session.User.Name == "" {
		if name != "" {
			a.failed(keys)
		}
		return "", nil, 401
	}
	return session.User.Name, session.User.Roles, 200
}

// keys are what failed logins are counted by: the address that the proxies before it say, the user, the password.
func (a *api) keys(r *http.Request, name, password string) []string {
	address, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	if address = strings.TrimSpace(address); address == "" {
		address, _, _ = strings.Cut(r.RemoteAddr, ":")
	}
	keys := []string{"address " + address}
	if name != "" {
		keys = append(keys, "user "+name, "password "+password)
	}
	return keys
}

func (a *api) limited(keys []string) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for _, key := range keys {
		recent := a.failures[key][:0]
		for _, moment := range a.failures[key] {
			if time.Since(moment) < failureWindow {
				recent = append(recent, moment)
			}
		}
		a.failures[key] = recent
		if len(recent) >= failuresAllowed {
			return true
		}
	}
	return false
}

func (a *api) failed(keys []string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for _, key := range keys {
		a.failures[key] = append(a.failures[key], time.Now())
	}
}

func (a *api) login(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		page(w, 200, "Login")
		return
	}
	var asked struct{ User, Password string }
	if !read(r.Body, &asked) {
		answer(w, 400, map[string]string{"error": "Bad request"})
		return
	}
	keys := a.keys(r, asked.User, asked.Password)
	if a.limited(keys) {
		answer(w, 429, map[string]string{"error": "Too many failed login attempts"})
		return
	}
	data, _ := json.Marshal(map[string]string{"name": asked.User, "password": asked.Password})
	response, err := http.Post(a.couch.Scheme+"://"+a.couch.Host+"/_session", "application/json", bytes.NewReader(data))
	if err != nil {
		answer(w, 500, map[string]string{"error": "Unexpected error logging in"})
		return
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		if response.StatusCode == 401 {
			a.failed(keys)
		}
		answer(w, response.StatusCode, map[string]string{"error": "Not logged in"})
		return
	}
	// Over plain HTTP a browser does not send back what is Secure.
	secure := os.Getenv("NODE_ENV") == "production"
	for _, cookie := range response.Cookies() {
		if cookie.Name == "AuthSession" {
			http.SetCookie(w, &http.Cookie{Name: "AuthSession", Value: cookie.Value, Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode})
		}
	}
	user := url.QueryEscape(`{"name":"` + asked.User + `"}`)
	http.SetCookie(w, &http.Cookie{Name: "userCtx", Value: user, Path: "/", Secure: secure, SameSite: http.SameSiteLaxMode, MaxAge: 31536000})
	w.WriteHeader(http.StatusFound)
	_, _ = w.Write([]byte("/"))
}

// proxy gives to CouchDB what is CouchDB's.
func (a *api) proxy(w http.ResponseWriter, r *http.Request) {
	(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(&url.URL{Scheme: a.couch.Scheme, Host: a.couch.Host})
	}}).ServeHTTP(w, r)
}

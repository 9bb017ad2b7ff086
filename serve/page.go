package serve

import (
	"bytes"
	"embed"
	"net/http"
	"path"
	"time"
)

//go:embed page.html page.css page.js openapi.json
var files embed.FS

// page gives the small page to drop an image on, and its parts.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if r.URL.Path == "/" {
		name = "page.html"
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	s.file(w, r, name)
}

// openAPI describes all paths for machines.
func (s *Server) openAPI(w http.ResponseWriter, r *http.Request) { s.file(w, r, "openapi.json") }

func (s *Server) file(w http.ResponseWriter, r *http.Request, name string) {
	data, err := files.ReadFile(name)
	if err != nil {
		fail(w, http.StatusNotFound, "there is nothing here")
		return
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
}

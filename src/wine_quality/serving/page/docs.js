"use strict";

// Shows the OpenAPI document, and lets people try it out.
SwaggerUIBundle({
  // beside this page, whatever prefix a proxy has put before both
  url: "openapi.json",
  domNode: document.getElementById("document"),
  deepLinking: true,
  // or it would ask a server of Swagger's whether the document is valid
  validatorUrl: null,
});

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.ByteArrayInputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.hl7.fhir.r5.elementmodel.Element;
import org.hl7.fhir.r5.elementmodel.Manager.FhirFormat;
import org.hl7.fhir.r5.model.FhirPublication;
import org.hl7.fhir.r5.model.OperationOutcome;
import org.hl7.fhir.r5.model.OperationOutcome.IssueSeverity;
import org.hl7.fhir.r5.utils.IResourceValidator.ReferenceValidationPolicy;
import org.hl7.fhir.r5.validation.ValidationEngine;

/**
 * Asks HL7's validator about each file of a folder, and writes what it tells of errors as one JSON object.
 *
 * The validator's own command ends at the first resource that it stumbles over; here that is an answer, too. References lead
 * nowhere: the types that they name are looked at, as this server does when it validates.
 *
 * Usage: java -cp validator.jar Ask.java FOLDER GUIDE ANSWER
 */
public class Ask extends ValidationEngine {
  private Ask() throws Exception {
    super("hl7.fhir.r4.core#4.0.1", null, null, FhirPublication.R4);
  }

  @Override
  public ReferenceValidationPolicy validationPolicy(Object context, String path, String url) {
    return ReferenceValidationPolicy.CHECK_TYPE_IF_EXISTS;
  }

  @Override
  public Element fetch(Object context, String url) {
    return null;
  }

  @Override
  public boolean resolveURL(Object context, String path, String url) {
    return true;
  }

  public static void main(String[] arguments) throws Exception {
    PrintStream out = System.out;
    Ask engine = new Ask();
    engine.loadIg(arguments[1], false);
    engine.setAnyExtensionsAllowed(true);
    engine.prepare();
    Map<String, List<String>> found = new TreeMap<>();
    List<Path> files;
    try (Stream<Path> paths = Files.list(Paths.get(arguments[0]))) {
      files = paths.sorted().collect(Collectors.toList());
    }
    for (Path file : files) {
      found.put(file.getFileName().toString().replaceAll("\\.json$", ""), engine.errorsOf(file));
    }
    Gson gson = new GsonBuilder().disableHtmlEscaping().setPrettyPrinting().create();
    Files.write(Paths.get(arguments[2]), gson.toJson(found).getBytes(StandardCharsets.UTF_8));
    out.println(files.size() + " files were looked at.");
  }

  /** What is told of one file: errors alone, each with its place. */
  private List<String> errorsOf(Path file) throws Exception {
    List<String> told = new ArrayList<>();
    try {
      OperationOutcome outcome =
          validate(FhirFormat.JSON, new ByteArrayInputStream(Files.readAllBytes(file)), Collections.emptyList());
      for (OperationOutcome.OperationOutcomeIssueComponent issue : outcome.getIssue()) {
        if (issue.getSeverity() == IssueSeverity.ERROR || issue.getSeverity() == IssueSeverity.FATAL) {
          String place = issue.getExpression().isEmpty() ? "?" : issue.getExpression().get(0).getValue();
          told.add(place + ": " + issue.getDetails().getText());
        }
      }
    } catch (Exception | Error stumbled) {
      if (stumbled instanceof VirtualMachineError) {
        throw stumbled;
      }
      told.add("!: " + stumbled);
    }
    return told;
  }
}
